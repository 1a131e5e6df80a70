"""What a forest is worth on rows it has never seen, and how sure that is."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from model_bundle.manifest import Metric
from model_export.tally import Tally

RESAMPLES = 2_000
CONFIDENCE = 0.95
_AT_ONCE = 100
DIGITS = 6


def measure(
    scores: NDArray[np.float64], labels: NDArray[np.int8], threshold: float, seed: int
) -> dict[str, Metric]:
    """Return each metric with its confidence interval.

    The intervals are bootstrap percentile intervals (Efron and Tibshirani, "An Introduction to the
    Bootstrap", 1993, chapter 13): `RESAMPLES` times, as many rows as there are of each label are drawn from
    those of that label, with replacement. A resample is drawn as how often each score occurs in it, which is
    multinomial, and is all that a metric depends on.

    Parameters
    ----------
    scores : ndarray of float64, shape (rows,)
        Probabilities of the positive label.
    labels : ndarray of int8, shape (rows,)
        0 or 1, both present.
    threshold
        For precision, recall and F1.
    seed
        Of the resampling.

    Returns
    -------
    dict
        ``f1``, ``precision``, ``recall``, ``pr_auc``, ``roc_auc`` and ``brier``, to six decimals.
    """
    tally = Tally.of(scores, labels)
    values = figures(tally, threshold)
    random = np.random.default_rng(seed)
    drawn: dict[str, list[NDArray[np.float64]]] = {name: [] for name in values}
    for start in range(0, RESAMPLES, _AT_ONCE):
        count = min(_AT_ONCE, RESAMPLES - start)
        positives, negatives = (
            random.multinomial(counts.sum(), counts / counts.sum(), count)
            for counts in (tally.positives, tally.negatives)
        )
        for name, resampled in figures(Tally(tally.scores, positives, negatives), threshold).items():
            drawn[name].append(resampled)
    tail = (1 - CONFIDENCE) / 2
    metrics = {}
    for name, value in values.items():
        low, high = np.quantile(np.concatenate(drawn[name]), (tail, 1 - tail))
        metrics[name] = Metric(*(round(float(figure), DIGITS) for figure in (value, low, high)))
    return metrics


def figures(tally: Tally, threshold: float) -> Mapping[str, NDArray[np.float64]]:
    """Return each metric of each repetition in a tally.

    Precision and F1 are 0 where no row is called positive. ``pr_auc`` is the average precision, without
    interpolation (as `sklearn.metrics.average_precision_score`); ``roc_auc`` counts ties as half; ``brier``
    is the mean squared distance of probability and label.
    """
    positives, negatives = tally.positives, tally.negatives
    called = tally.scores >= threshold
    true = positives[..., called].sum(-1)
    false = negatives[..., called].sum(-1)
    total, others = positives.sum(-1), negatives.sum(-1)
    below = others[..., None] - tally.false_positives()
    squares = positives @ (1 - tally.scores) ** 2 + negatives @ tally.scores**2
    return {
        "f1": 2 * true / (true + false + total),
        "precision": true / np.maximum(true + false, 1),
        "recall": true / total,
        "pr_auc": (positives * tally.precision()).sum(-1) / total,
        "roc_auc": (positives * (below + negatives / 2)).sum(-1) / (total * others),
        "brier": squares / (total + others),
    }
