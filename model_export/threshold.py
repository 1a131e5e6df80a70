"""Chooses the threshold, from scores of rows that the forest was not trained on and the test does not use."""

import numpy as np
from numpy.typing import NDArray

from model_export.error import ExportError
from model_export.grid import off_grid
from model_export.tally import Tally


class ThresholdError(ExportError):
    """Scores that no threshold can tell apart."""


def choose(scores: NDArray[np.float64], labels: NDArray[np.int8]) -> float:
    """Return the threshold with the greatest F1 on the given rows.

    It lies midway between two neighbouring scores, off the grid of attainable ones, so that no row can ever
    hit it. Of equally good ones, the one in the widest gap.

    Raises
    ------
    ThresholdError
        If all scores are the same.
    """
    tally = Tally.of(scores, labels)
    if tally.scores.size < 2:
        raise ThresholdError(f"the forest gives every row the same probability, {tally.scores[0]:g}")
    upper, lower = tally.scores[:-1], tally.scores[1:]
    f1 = tally.f1()[:-1]
    best = max(range(f1.size), key=lambda index: (f1[index], upper[index] - lower[index]))
    return off_grid((upper[best] + lower[best]) / 2)
