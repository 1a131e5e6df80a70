"""The grid that every score of a forest lies on, and how to stay off it.

Each leaf's probability is a multiple of `LEAF_STEP`, and a forest has a power of two of trees, at most
`MAX_TREES`. The mean over the trees is then a multiple of ``2**-20``. So is every partial sum of it, and all
are at most 1: float32 and float64 hold them exactly, in any order of the trees. scikit-learn and ONNX
Runtime therefore agree to the last bit, and a boundary between two grid points is hit by no row.

A regression's leaves are multiples of `leaf_step` instead: a power of two that gives the mean as many binary
digits as float32 has room for, whatever the magnitude of the values. See docs/decisions/0001-exact-leaves.md.
"""

import math

LEAF_STEP = 2.0**-12
"""The distance of neighbouring leaf probabilities."""

MAX_TREES = 256
"""More trees would need more digits than a float32 sum has room for with a margin."""

_GRID = int(MAX_TREES / LEAF_STEP)
# Of the 24 that float32 has.
_DIGITS = 23


def leaf_step(greatest: float, trees: int) -> float:
    """Return the distance of neighbouring leaf values of a regression.

    Every partial sum of the mean is then a multiple of ``leaf_step / trees``, and at most ``2**23`` of them.

    Parameters
    ----------
    greatest
        The greatest magnitude of a leaf's value.
    trees
        A power of two.
    """
    _, exponent = math.frexp(greatest)
    return math.ldexp(trees, exponent - _DIGITS) if greatest else 1.0


def off_grid(score: float, step: float = 1 / _GRID) -> float:
    """Return the middle of the grid's cell that a score is in: an odd multiple of half a step.

    Parameters
    ----------
    score
        A grid point belongs to the cell above it.
    step
        The grid's: for a probability ``2**-20``, for a regression's value ``leaf_step / trees``.
    """
    return (2 * math.floor(score / step) + 1) * step / 2


def is_power_of_two(count: int) -> bool:
    """Return whether a number of trees keeps the forest's mean exact."""
    return count > 0 and count & (count - 1) == 0
