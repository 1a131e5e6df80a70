"""The grid that every probability of a forest lies on, and how to stay off it.

Each leaf's probability is a multiple of `LEAF_STEP`, and a forest has a power of two of trees, at most
`MAX_TREES`. The mean over the trees is then a multiple of ``2**-20``. So is every partial sum of it, and all
are at most 1: float32 and float64 hold them exactly, in any order of the trees. scikit-learn and ONNX
Runtime therefore agree to the last bit, and a boundary between two grid points is hit by no row.
See docs/decisions/0001-exact-leaves.md.
"""

import math

LEAF_STEP = 2.0**-12
"""The distance of neighbouring leaf probabilities."""

MAX_TREES = 256
"""More trees would need more digits than a float32 sum has room for with a margin."""

_GRID = int(MAX_TREES / LEAF_STEP)


def off_grid(probability: float) -> float:
    """Return the middle of the grid's cell that a probability is in: an odd multiple of ``2**-21``.

    Parameters
    ----------
    probability
        At least 0 and below 1. A grid point belongs to the cell above it.
    """
    return (2 * math.floor(probability * _GRID) + 1) / (2 * _GRID)


def is_power_of_two(count: int) -> bool:
    """Return whether a number of trees keeps the forest's mean exact."""
    return count > 0 and count & (count - 1) == 0
