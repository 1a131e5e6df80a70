"""From a graph's score to what a caller is told. Decided here, never by the graph's own label output."""

import math
from bisect import bisect_right
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from model_bundle.manifest import Interval, Manifest

Outcome = Mapping[str, float | str]
"""What a model makes of a row, by name: numbers and texts."""

_PROBABILITY_TOLERANCE = 1e-6
_VALUE_TOLERANCE = 1e-5


class Decision:
    """Decides by a classification's threshold and risk levels. The score is a probability."""

    def __init__(self, manifest: Manifest):
        self.threshold = manifest.threshold
        self.boundaries = (self.threshold,)
        self._negative, self._positive = manifest.labels
        self.labels = manifest.labels
        self.risk_levels = tuple(level.name for level in manifest.risk_levels)
        self._minimums = [level.minimum for level in manifest.risk_levels]

    def label(self, probability: float) -> str:
        """Return the positive label from the threshold on, else the negative one."""
        return self._positive if probability >= self.threshold else self._negative

    def risk_level(self, probability: float) -> str:
        """Return a probability's level: on a boundary the upper one, below all the lowest."""
        return self.risk_levels[max(bisect_right(self._minimums, probability) - 1, 0)]

    def label_indices(self, probabilities: NDArray[np.float64]) -> NDArray[np.intp]:
        """Return the place in `labels` of each of many probabilities' label."""
        return (probabilities >= self.threshold).astype(np.intp)

    def risk_level_indices(self, probabilities: NDArray[np.float64]) -> NDArray[np.intp]:
        """Return the place in `risk_levels` of each of many probabilities' level."""
        return np.maximum(np.searchsorted(self._minimums, probabilities, side="right") - 1, 0)

    def outcome(self, score: float) -> Outcome:
        """Return ``probability`` and ``label``."""
        return {"probability": score, "label": self.label(score)}

    def tolerance(self, _score: float) -> float:
        """Return how far a probability may be from the trained forest's, for up to 300 trees."""
        return _PROBABILITY_TOLERANCE


class Estimate:
    """Gives a regression's value its interval. The score is the value."""

    def __init__(self, interval: Interval):
        self.coverage = interval.coverage
        self.boundaries = interval.cuts
        self._least = -math.inf if interval.least is None else interval.least
        self._below, self._above = interval.below, interval.above

    def interval(self, value: float) -> tuple[float, float]:
        """Return the ends of a value's interval. A value on a cut belongs to the upper band."""
        band = bisect_right(self.boundaries, value)
        return max(value - self._below[band], self._least), value + self._above[band]

    def intervals(self, values: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the lower and the upper ends of many values' intervals."""
        bands = np.searchsorted(self.boundaries, values, side="right")
        lows = values - np.asarray(self._below)[bands]
        return np.where(lows < self._least, self._least, lows), values + np.asarray(self._above)[bands]

    def outcome(self, score: float) -> Outcome:
        """Return ``value``, and ``low`` and ``high`` of its interval."""
        low, high = self.interval(score)
        return {"value": score, "low": low, "high": high}

    def tolerance(self, score: float) -> float:
        """Return how far a value, and the ends of its interval, may be from the trained forest's."""
        return _VALUE_TOLERANCE * abs(score)


def of(manifest: Manifest) -> Decision | Estimate:
    """Return what turns a model's scores into outcomes, by its task."""
    return Decision(manifest) if manifest.interval is None else Estimate(manifest.interval)
