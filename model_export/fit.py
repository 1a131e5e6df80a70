"""What a regression is worth on rows it has never seen, and how sure that is."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from model_bundle.decision import Estimate
from model_bundle.manifest import Metric
from model_export.metrics import CONFIDENCE, DIGITS, RESAMPLES


def measure(
    values: NDArray[np.float64], true: NDArray[np.float64], estimate: Estimate, block: int, seed: int
) -> dict[str, Metric]:
    """Return each metric with its confidence interval.

    The intervals are percentile intervals of the circular block bootstrap (Politis and Romano, "A circular
    block-resampling procedure for stationary data", 1992): `RESAMPLES` times, blocks of rows that follow each
    other are drawn, with replacement, as many as make up all rows. Blocks of one row are the plain bootstrap.

    Parameters
    ----------
    values, true : ndarray of float64, shape (rows,)
        The forest's values, and the true ones.
    estimate
        Gives a value its interval.
    block
        How many rows a block has.
    seed
        Of the resampling.

    Returns
    -------
    dict
        ``r2``, ``mae``, ``rmse``, ``coverage`` and ``width``, to six decimals.
    """
    low, high = intervals(values, estimate)
    each = np.stack(
        [
            np.ones_like(true),
            # R2 does not depend on where zero is: about the mean nothing is lost by squaring.
            true - true.mean(),
            (true - true.mean()) ** 2,
            (true - values) ** 2,
            np.abs(true - values),
            (low <= true) & (true <= high),
            high - low,
        ]
    )
    sums = np.concatenate([np.zeros((len(each), 1)), np.cumsum(np.tile(each, 2), axis=1)], axis=1)
    starts = np.random.default_rng(seed).integers(0, len(true), (RESAMPLES, -(-len(true) // block)))
    drawn = figures((sums[:, starts + block] - sums[:, starts]).sum(axis=-1))
    tail = (1 - CONFIDENCE) / 2
    return {
        name: Metric(
            *(round(float(figure), DIGITS) for figure in (value, *np.quantile(drawn[name], (tail, 1 - tail))))
        )
        for name, value in figures(each.sum(axis=1)).items()
    }


def figures(sums: NDArray[np.float64]) -> Mapping[str, NDArray[np.float64]]:
    """Return each metric of sums over rows: of 1, the true value, its square, and what `measure` adds up."""
    rows, true, squared, squared_errors, errors, covered, widths = sums
    spread = squared - true**2 / rows
    return {
        "r2": 1 - squared_errors / np.where(spread > 0, spread, np.inf),
        "mae": errors / rows,
        "rmse": np.sqrt(squared_errors / rows),
        "coverage": covered / rows,
        "width": widths / rows,
    }


def intervals(
    values: NDArray[np.float64], estimate: Estimate
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the ends of each value's interval."""
    low, high = np.array([estimate.interval(value) for value in values.tolist()]).T
    return low, high


def block_length(rows: int, by_time: bool) -> int:
    """Return how many rows a block has: the cube root of all where their order is time, else one."""
    return max(round(rows ** (1 / 3)), 1) if by_time else 1
