"""Chooses the threshold, from scores by trees that did not see the row. The test part has no say."""

import numpy as np
from numpy.typing import NDArray

from model_export.error import ExportError
from model_export.grid import off_grid

_SOFT = 0.005
_WEAK = 100.0


class ThresholdError(ExportError):
    """Scores that no threshold can tell apart."""


def choose(scores: NDArray[np.float64], labels: NDArray[np.int8], negative_weight: float = 1.0) -> float:
    """Return the threshold with the greatest F1 to be expected.

    A logistic curve is fitted to the scores (Platt, "Probabilistic outputs for support vector machines",
    1999), and the F1 of each cut is that of the counts by the curve (Ye et al., "Optimizing F-measures: a
    tale of two approaches", 2012). The cut with the greatest F1 of the rows themselves would hang on the few
    positive rows next to it: from sample to sample it moves four times as far.

    The threshold lies midway between two neighbouring scores, off the grid of attainable ones, so that no
    row can ever hit it.

    Parameters
    ----------
    scores : ndarray of float64, shape (rows,)
        Probabilities of label 1, by trees that did not see the row.
    labels : ndarray of int8, shape (rows,)
        0 or 1, both present.
    negative_weight
        How many rows each row of label 0 stands for.

    Raises
    ------
    ThresholdError
        If all scores are the same.
    """
    from sklearn.linear_model import LogisticRegression  # noqa: PLC0415

    distinct, score_of_row = np.unique(scores, return_inverse=True)
    if distinct.size < 2:
        raise ThresholdError(f"the forest gives every row the same probability, {distinct[0]:g}")
    weights = np.where(labels == 1, 1.0, negative_weight)
    logits = np.log((distinct + _SOFT) / (1 - distinct + _SOFT))[:, None]
    curve = LogisticRegression(C=_WEAK).fit(logits[score_of_row], labels, weights)
    called = np.bincount(score_of_row, weights)[::-1]
    positives = called * curve.predict_proba(logits[::-1])[:, 1]
    f1 = 2 * positives.cumsum() / (called.cumsum() + positives.sum())
    # A cut below the least score would call every row positive.
    cut = int(f1[:-1].argmax())
    return off_grid(float(distinct[-1 - cut] + distinct[-2 - cut]) / 2)
