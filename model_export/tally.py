"""Scored rows as counts: how many of each label have each score. All metrics are made of these."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Tally:
    """Counts of rows by score.

    Attributes
    ----------
    scores : ndarray of float64, shape (scores,)
        Each score once, descending.
    positives, negatives : ndarray of int64, shape (..., scores)
        How many rows of label 1 and 0 have it. Axes before the last are repetitions.
    """

    scores: NDArray[np.float64]
    positives: NDArray[np.int64]
    negatives: NDArray[np.int64]

    @classmethod
    def of(cls, scores: NDArray[np.float64], labels: NDArray[np.int8]) -> "Tally":
        """Count scored rows."""
        distinct, index = np.unique(scores, return_inverse=True)
        counts = [np.bincount(index[labels == label], minlength=distinct.size)[::-1] for label in (1, 0)]
        return cls(distinct[::-1], *counts)

    def true_positives(self) -> NDArray[np.int64]:
        """Return the positive rows with at least each score."""
        return np.cumsum(self.positives, axis=-1)

    def false_positives(self) -> NDArray[np.int64]:
        """Return the negative rows with at least each score."""
        return np.cumsum(self.negatives, axis=-1)

    def precision(self) -> NDArray[np.float64]:
        """Return the precision of calling each score and those above it positive; 0 if there are none."""
        true, called = self.true_positives(), self.true_positives() + self.false_positives()
        precision: NDArray[np.float64] = true / np.maximum(called, 1)
        return precision

    def recall(self) -> NDArray[np.float64]:
        """Return the recall of calling each score and those above it positive."""
        true = self.true_positives()
        return true / true[..., -1:]

    def f1(self) -> NDArray[np.float64]:
        """Return F1 of calling each score and those above it positive."""
        true, false = self.true_positives(), self.false_positives()
        return 2 * true / (true + false + true[..., -1:])
