"""Whether a probability of so much comes true so often."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

BINS = 10
_NORMAL_95 = 1.959964


@dataclass(frozen=True, slots=True)
class Bin:
    """The rows with probabilities from ``start`` to ``end``.

    Attributes
    ----------
    rows, positives : int
    predicted : float
        The mean probability.
    observed, low, high : float
        The share of positive rows, with its 95 % Wilson score interval (Wilson, "Probable inference, the
        law of succession, and statistical inference", 1927).
    """

    start: float
    end: float
    rows: int
    positives: int
    predicted: float
    observed: float
    low: float
    high: float


def bins(scores: NDArray[np.float64], labels: NDArray[np.int8]) -> list[Bin]:
    """Return the bins of equal width that have any rows."""
    index = np.minimum((scores * BINS).astype(int), BINS - 1)
    found = []
    for number in np.unique(index).tolist():
        inside = index == number
        rows, positives = int(inside.sum()), int(labels[inside].sum())
        low, high = _wilson(positives, rows)
        found.append(
            Bin(
                number / BINS,
                (number + 1) / BINS,
                rows,
                positives,
                float(scores[inside].mean()),
                positives / rows,
                low,
                high,
            )
        )
    return found


def _wilson(positives: int, rows: int) -> tuple[float, float]:
    share, square = positives / rows, _NORMAL_95**2
    centre = share + square / (2 * rows)
    reach = _NORMAL_95 * math.sqrt((share * (1 - share) + square / (4 * rows)) / rows)
    scale = 1 + square / rows
    return max((centre - reach) / scale, 0.0), min((centre + reach) / scale, 1.0)
