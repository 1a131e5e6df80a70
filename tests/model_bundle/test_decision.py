from dataclasses import replace
from pathlib import Path

import pytest

from model_bundle import bundle
from model_bundle.decision import Decision, Estimate
from model_bundle.manifest import Interval, RiskLevel


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


@pytest.mark.parametrize(
    ("value", "interval"),
    [
        (-3.0, (0.0, -2.0)),
        (0.5, (0.0, 1.5)),
        (10.25, (8.25, 11.25)),
        (10.5, (5.5, 14.5)),
        (1e6, (1e6 - 5, 1e6 + 4)),
    ],
)
def test_an_interval_is_that_of_the_values_band_and_a_cut_belongs_to_the_upper(
    value: float, interval: tuple[float, float]
):
    estimate = Estimate(Interval(0.9, "", 0.0, (10.5,), (2.0, 5.0), (1.0, 4.0)))
    assert estimate.interval(value) == interval
    assert estimate.outcome(value) == {"value": value, "low": interval[0], "high": interval[1]}


def test_an_interval_may_have_no_bands_and_nothing_it_cannot_be_below():
    assert Estimate(Interval(0.9, "", None, (), (2.0,), (1.0,))).interval(-5.0) == (-7.0, -4.0)
