"""Drift: how far rows are from a reference, and whether that is more than chance (docs/drift.md)."""

import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import Literal

import numpy as np

from model_bundle.reference import Counts

MODERATE, GREAT = 0.1, 0.25
"""From which population stability index on a drift is worth a look, and from which on it is an alarm.

The rule of thumb of credit scoring: Siddiqi, "Credit Risk Scorecards", 2006. It knows nothing of how many
rows there are, and so is only half of `judge`'s rule.
"""

FALSE_ALARMS = 0.001
"""How often chance may give an alarm where nothing has drifted: in all comparisons together."""

# What a bin has besides its rows: Jeffreys' prior of a multinomial. It is taken away by no logarithm.
_PRIOR = 0.5
# By this the Jensen-Shannon divergence, in bits, of two distributions that are near each other is their
# population stability index: both are then sums of squared differences over the shares.
_BITS = 8 * math.log(2)

Level = Literal["none", "moderate", "great", "untold"]


@dataclass(frozen=True, slots=True)
class Judgement:
    """How far rows are from the reference in one feature, or in the score.

    Attributes
    ----------
    rows : int
        How many were compared.
    index : float
        The population stability index.
    distance : float or None
        The Jensen-Shannon distance, of a category or a flag; None for a number.
    chance : float
        What the index reaches by chance alone, in one of so many comparisons as `FALSE_ALARMS` says.
    level : str
        ``none``; ``moderate`` from `MODERATE` on; ``great`` from `GREAT` on; each only if it is more than
        chance. ``untold`` if chance alone reaches `GREAT`, and no more was found: there are too few rows.
    """

    rows: int
    index: float
    distance: float | None
    chance: float
    level: Level


def judge(reference: Counts, counts: Counts, comparisons: int, *, discrete: bool) -> Judgement:
    """Judge the rows of one feature, or of the score.

    A number is judged by its population stability index. A category or a flag is judged by the greater of
    that and of what its Jensen-Shannon distance comes to as an index (`index_of_distance`).

    Parameters
    ----------
    reference : ndarray of int64, shape (bins + 4,)
        The reference's rows by its bins.
    counts : ndarray of int64, shape (bins + 4,)
        The rows to be judged, by the same bins.
    comparisons
        How many features are judged together, the score among them.
    discrete
        Whether each bin is one value: of a category or a flag.
    """
    rows = int(counts.sum())
    if not rows:
        return Judgement(0, 0.0, 0.0 if discrete else None, math.inf, "untold")
    index = stability_index(reference, counts)
    distance = shannon_distance(reference, counts) if discrete else None
    by_chance = chance(reference, counts, comparisons)
    size = max(index, 0.0 if distance is None else index_of_distance(distance))
    level: Level = "none"
    if size >= max(GREAT, by_chance):
        level = "great"
    elif size >= max(MODERATE, by_chance):
        level = "moderate"
    elif by_chance > GREAT:
        level = "untold"
    return Judgement(rows, index, distance, by_chance, level)


def stability_index(reference: Counts, counts: Counts) -> float:
    """Return the population stability index: ``sum((q - p) * log(q / p))`` over the bins' shares.

    It is the symmetric divergence of Kullback and Leibler ("On information and sufficiency", 1951), known in
    credit scoring by this name. A bin that is empty in one of the two would make it infinite: each bin's
    share is ``(rows + 1/2) / (all rows + bins / 2)``. A bin that is empty in both is none.
    """
    used = (reference > 0) | (counts > 0)
    expected, found = reference[used] + _PRIOR, counts[used] + _PRIOR
    expected, found = expected / expected.sum(), found / found.sum()
    return float(((found - expected) * np.log(found / expected)).sum())


def shannon_distance(reference: Counts, counts: Counts) -> float:
    """Return the Jensen-Shannon distance of the bins' shares, from 0 to 1.

    The root of the divergence in bits (Lin, "Divergence measures based on the Shannon entropy", 1991), which
    is a metric (Endres and Schindelin, "A new metric for probability distributions", 2003). Empty bins need
    no care, and so it does not depend on what stands for them.
    """
    expected, found = reference / reference.sum(), counts / counts.sum()
    middle = (expected + found) / 2
    divergence = sum(
        float((shares[there] * np.log2(shares[there] / middle[there])).sum())
        for shares in (expected, found)
        for there in (shares > 0,)
    )
    return math.sqrt(max(divergence / 2, 0.0))


def index_of_distance(distance: float) -> float:
    """Return the population stability index of two near distributions that are so far from each other."""
    return _BITS * distance**2


def chance(reference: Counts, counts: Counts, comparisons: int) -> float:
    """Return what the population stability index reaches by chance, once in ``comparisons / FALSE_ALARMS``.

    Of two samples of one distribution the index is ``1/n + 1/m`` times a chi-square variable with one degree
    of freedom less than there are bins (Yurdakul, "Statistical properties of population stability index",
    2018); so is eight times the Jensen-Shannon divergence in nats (Grosse et al., "Analysis of symbolic
    sequences using the Jensen-Shannon divergence", 2002).
    """
    freedom = int(((reference > 0) | (counts > 0)).sum()) - 1
    return (1 / int(counts.sum()) + 1 / int(reference.sum())) * _chi_square(freedom, comparisons)


def rows_needed(reference: Counts, comparisons: int) -> int | None:
    """Return how many rows chance needs to stay below `GREAT`; None if the reference has too few itself."""
    bound = _chi_square(int((reference > 0).sum()) - 1, comparisons)
    left = GREAT - bound / int(reference.sum())
    return math.ceil(bound / left) if left > 0 else None


def _chi_square(freedom: int, comparisons: int) -> float:
    """Return the quantile of a chi-square variable (Wilson and Hilferty, 1931)."""
    if freedom < 1:
        return 0.0
    spread = 2 / (9 * freedom)
    deviations = NormalDist().inv_cdf(1 - FALSE_ALARMS / comparisons)
    return float(freedom * (1 - spread + deviations * math.sqrt(spread)) ** 3)
