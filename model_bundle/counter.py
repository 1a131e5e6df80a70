"""Counts what rows look like by a reference's bins: cheap enough to be done beside each call.

Counting knows nothing of drift. `model_bundle.drift` judges what was counted, as often as somebody asks.
"""

import numpy as np
from numpy.typing import NDArray

from model_bundle.reference import Counts, Reference

_BLOCK = 128


class Counter:
    """Counts rows, a block of them at a time.

    A row that is added is only copied. When a block is full, each feature's values find their bins in one
    bisection, and all bins are counted at once.

    Parameters
    ----------
    reference
        Whose bins to count by.
    block
        How many rows are kept before they are counted.

    Attributes
    ----------
    size : int
        How long `Counts` are.
    """

    def __init__(self, reference: Reference, block: int = _BLOCK):
        widths = [histogram.counts.size for histogram in reference]
        self._starts = np.cumsum([0, *widths])
        self.size = int(self._starts[-1])
        # Of the features: they are float32, as every edge between bins of theirs is.
        self._edges = [histogram.edges.astype(np.float32) for histogram in reference[:-1]]
        self._score_edges = reference[-1].edges
        self._rows = np.empty((block, len(self._edges)), np.float32)
        self._scores = np.empty(block, np.float64)
        self._filled = 0
        self._counts = np.zeros(self.size, np.int64)

    def add(self, row: NDArray[np.float32], score: float) -> None:
        """Add a row.

        Parameters
        ----------
        row : ndarray of float32, shape (features,)
            As the encoder has it. It is copied.
        score
            What the model made of it; NaN if it was not scored.
        """
        filled = self._filled
        self._rows[filled] = row
        self._scores[filled] = score
        self._filled = filled = filled + 1
        if filled == len(self._scores):
            self._flush()

    def add_all(self, rows: NDArray[np.float32], scores: NDArray[np.floating]) -> None:
        """Add many rows: as `add`, but a row each in ``rows`` and ``scores``."""
        for start in range(0, len(rows), 4096):
            self._count(rows[start : start + 4096], scores[start : start + 4096].astype(np.float64))

    def take(self) -> Counts:
        """Return how many rows were added in which bin since this was asked last."""
        self._flush()
        counts, self._counts = self._counts, np.zeros(self.size, np.int64)
        return counts

    def parts(self, counts: Counts) -> list[Counts]:
        """Return the counts of each histogram of the reference."""
        return np.split(counts, self._starts[1:-1])

    def _flush(self) -> None:
        filled, self._filled = self._filled, 0
        if filled:
            self._count(self._rows[:filled], self._scores[:filled])

    def _count(self, rows: NDArray[np.float32], scores: NDArray[np.float64]) -> None:
        places = np.empty((len(self._edges) + 1, len(rows)), np.intp)
        for place, edges, values in zip(places, self._edges, np.ascontiguousarray(rows.T), strict=False):
            place[:] = edges.searchsorted(values, "right")
        places[-1] = self._score_edges.searchsorted(scores, "right")
        places += self._starts[:-1, None]
        self._counts += np.bincount(places.ravel(), minlength=self.size)


class Window:
    """The last so many blocks of counts, as a ring: what a server has seen in the last hour, by the minute.

    Parameters
    ----------
    blocks
        How many.
    size
        How long `Counts` are.

    Attributes
    ----------
    counts : ndarray of int64, shape (size,)
        The sum of the blocks.
    """

    def __init__(self, blocks: int, size: int):
        self._ring = np.zeros((blocks, size), np.int64)
        self._last = 0
        self.counts: Counts = np.zeros(size, np.int64)

    def add(self, counts: Counts) -> None:
        """Add counts to the newest block."""
        self._ring[self._last] += counts
        self.counts += counts

    def turn(self) -> None:
        """Begin a new block. The oldest one falls out."""
        self._last = (self._last + 1) % len(self._ring)
        self.counts -= self._ring[self._last]
        self._ring[self._last] = 0
