"""Intervals about a regression's values, from residuals of rows that the forest had not seen."""

import math
from collections.abc import Iterator
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from model_bundle.manifest import Interval
from model_export.error import ExportError
from model_export.grid import off_grid
from model_export.recipe import Quantity, Recipe
from model_export.split import Part
from model_export.training import Trained, out_of_bag, train

_BANDS = 10
# A band's outermost residuals are its quantiles: it needs some.
_ROWS_OF_A_BAND = 100
# Where the training rows that are predicted from their past begin, and how many times the forest is fitted
# anew.
_FIRST, _REFITS = 0.5, 5

METHODS = {
    "random": "Mondrian conformal by the value's band, from signed residuals of rows out of bag",
    "time": "Mondrian conformal by the value's band, from signed residuals of rows predicted from their past",
}
"""How intervals are made, in words, by how the recipe splits."""


class IntervalError(ExportError):
    """Too few rows to make intervals of."""


def unseen(
    trained: Trained, recipe: Recipe, part: Part, seed: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return values of training rows by forests that had not seen them, and the true ones.

    Without an order of time these are rows out of bag (Johansson et al., "Regression conformal prediction
    with random forests", 2014). By time they are the later half of the training part, a tenth at a time, each
    by a forest that was fitted to everything before it: a row's neighbours in time would tell too much of it.

    Returns
    -------
    values, true : ndarray of float64, shape (rows,)
    """
    if recipe.split == "random":
        validation, values = out_of_bag(trained, part)
        return values, validation.targets
    by_stretch, true = [], []
    for start, end in _stretches(len(part.targets)):
        past = Part(part.rows[:start], part.targets[:start])
        by_stretch.append(train(recipe, past, seed).scores(part.rows[start:end]))
        true.append(part.targets[start:end])
    return np.concatenate(by_stretch), np.concatenate(true)


def make(
    values: NDArray[np.float64], true: NDArray[np.float64], target: Quantity, step: float, method: str
) -> Interval:
    """Return intervals that hold a share of the true values, in each band of values.

    The values are parted into bands of as many rows each, and each band's interval reaches from the lower to
    the upper quantile of its own residuals, with the ranks of split conformal prediction: Mondrian conformal
    regression with signed errors (Boström and Johansson, "Mondrian conformal regressors", 2020; Linusson et
    al., "Signed-error conformal regression", 2014). If rows to come are exchangeable with these, the
    intervals hold at least the share aimed at, whatever the forest and the distribution.

    Parameters
    ----------
    values : ndarray of float64, shape (rows,)
        By forests that had not seen the row.
    true : ndarray of float64, shape (rows,)
        The true ones.
    target
        What share, and what no value is below.
    step
        The grid's of the values: a cut lies between two points of it, where no row can hit it.
    method
        One of `METHODS`.

    Raises
    ------
    IntervalError
        If there are too few rows.
    """
    bands = min(_BANDS, len(values) // _ROWS_OF_A_BAND)
    if not bands:
        raise IntervalError(
            f"{len(values)} rows that the forest had not seen are too few for intervals: "
            f"{_ROWS_OF_A_BAND} are needed"
        )
    quantiles = np.quantile(values, np.arange(1, bands) / bands)
    cuts = sorted({off_grid(float(quantile), step) for quantile in quantiles})
    band = np.searchsorted(cuts, values, side="right")
    # Values that many rows share may leave a band without any row.
    kept = [cut for index, cut in enumerate(cuts) if (band == index).sum() >= _ROWS_OF_A_BAND // 2]
    if kept and (np.searchsorted(kept, values, side="right") == len(kept)).sum() < _ROWS_OF_A_BAND // 2:
        kept.pop()
    band = np.searchsorted(kept, values, side="right")
    residuals = [np.sort((true - values)[band == index]) for index in range(len(kept) + 1)]
    tail = (1 - target.coverage) / 2
    return Interval(
        coverage=target.coverage,
        method=method,
        least=target.least,
        cuts=tuple(kept),
        below=tuple(_reach(-residual[::-1], tail) for residual in residuals),
        above=tuple(_reach(residual, tail) for residual in residuals),
    )


def _reach(residuals: NDArray[np.float64], tail: float) -> float:
    """Return what all but a share of ascending residuals are at most, and 0 at least."""
    rank = math.ceil((len(residuals) + 1) * (1 - tail))
    return max(float(residuals[min(rank, len(residuals)) - 1]), 0.0)


def _stretches(rows: int) -> Iterator[tuple[int, int]]:
    """Yield where each stretch of rows begins and ends that is predicted from everything before it."""
    bounds = np.linspace(_FIRST * rows, rows, _REFITS + 1).astype(int).tolist()
    return ((start, end) for start, end in pairwise(bounds) if 0 < start < end)
