"""Levels of risk, placed about the threshold."""

from model_bundle.manifest import RiskLevel
from model_export.grid import off_grid


def levels(threshold: float) -> tuple[RiskLevel, ...]:
    """Return the levels: medium from half the threshold, high from it, critical from halfway to certainty.

    Like the threshold, none of them can be hit by a row.
    """
    return (
        RiskLevel("low", 0.0),
        RiskLevel("medium", off_grid(threshold / 2)),
        RiskLevel("high", threshold),
        RiskLevel("critical", off_grid((1 + threshold) / 2)),
    )
