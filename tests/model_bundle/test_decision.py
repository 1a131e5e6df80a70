from dataclasses import replace
from pathlib import Path

import pytest

from model_bundle import bundle
from model_bundle.decision import Decision
from model_bundle.manifest import RiskLevel


@pytest.fixture
def decision(fraud_bundle: Path) -> Decision:
    manifest, _ = bundle.read_manifest(fraud_bundle)
    levels = (RiskLevel("low", 0.0), RiskLevel("high", 0.25), RiskLevel("critical", 0.75))
    return Decision(replace(manifest, threshold=0.25, risk_levels=levels))


@pytest.mark.parametrize(
    ("probability", "label", "level"),
    [
        (0.0, "legitimate", "low"),
        (0.2499999, "legitimate", "low"),
        (0.25, "fraud", "high"),
        (0.7499999, "fraud", "high"),
        (0.75, "fraud", "critical"),
        (1.0, "fraud", "critical"),
    ],
)
def test_a_boundary_belongs_to_what_is_above_it(
    decision: Decision, probability: float, label: str, level: str
):
    assert decision.label(probability) == label
    assert decision.risk_level(probability) == level
