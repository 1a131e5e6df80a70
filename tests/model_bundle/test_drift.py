"""The measures, what chance alone makes of them, and what is said of both."""

import json
import math

import numpy as np
import pytest
from scipy.spatial.distance import jensenshannon
from scipy.stats import chi2

from model_bundle import drift
from model_bundle.drift import FALSE_ALARMS, GREAT, MODERATE, Judgement
from model_bundle.manifest import Feature
from model_bundle.reference import Histogram, from_bytes

SCORE = {"rows": 2, "missing": 0, "edges": [0.5], "counts": [1, 1]}


def histogram(counts: list[int], *, feature: Feature | None = None, missing: int = 0) -> Histogram:
    """Return a feature's reference: of a number with bins from 0 to 1, 1 to 2 and so on."""
    feature = feature or Feature("x", "number", "impute", minimum=0, maximum=len(counts))
    edges = [float(edge) for edge in range(1, len(counts))]
    found = {"rows": sum(counts) + missing, "missing": missing, "edges": edges, "counts": counts}
    document = {"schema_version": 1, "features": {feature.name: found}, "score": SCORE}
    return from_bytes(json.dumps(document).encode(), (feature,))[0]


def category(counts: list[int]) -> Histogram:
    names = tuple(f"value {index}" for index in range(len(counts)))
    return histogram(counts, feature=Feature("x", "category", "reject", categories=names))


def judge(reference: Histogram, found: np.ndarray, comparisons: int) -> Judgement:
    return drift.judge(reference.counts, found, comparisons, discrete=reference.discrete)


def rows(*counts: int, below: int = 0, above: int = 0, missing: int = 0) -> np.ndarray:
    return np.array([below, *counts, above, missing])


def test_the_index_is_the_sum_that_its_definition_says():
    # Without empty bins and with many rows, half a row is nothing.
    reference, found = rows(500_000, 300_000, 200_000), rows(400_000, 300_000, 300_000)
    expected = 0.1 * math.log(5 / 4) + 0.1 * math.log(3 / 2)
    assert drift.stability_index(reference, found) == pytest.approx(expected, rel=1e-4)
    assert drift.stability_index(found, reference) == pytest.approx(expected, rel=1e-4)
    assert drift.stability_index(reference, reference * 7) == pytest.approx(0, abs=1e-9)


def test_an_empty_bin_has_half_a_row_and_one_that_is_empty_in_both_none():
    index = drift.stability_index(rows(10, 0, 0), rows(5, 5, 0))
    before, now = np.array([10.5, 0.5]) / 11, np.array([5.5, 5.5]) / 11
    assert index == pytest.approx(float(((now - before) * np.log(now / before)).sum()))


@pytest.mark.parametrize("found", [(10, 20, 70), (0, 50, 50), (100, 0, 0)])
def test_the_distance_is_scipys(found: tuple[int, ...]):
    reference = np.array([30, 30, 40])
    expected = jensenshannon(reference / 100, np.array(found) / 100, base=2)
    assert drift.shannon_distance(reference, np.array(found)) == pytest.approx(expected)
    assert drift.shannon_distance(reference, reference) == 0
    assert drift.shannon_distance(np.array([5, 0]), np.array([0, 9])) == pytest.approx(1)


def test_a_small_distance_comes_to_the_index():
    reference, found = rows(500_000, 300_000, 200_000), rows(510_000, 297_000, 193_000)
    distance = drift.shannon_distance(reference, found)
    assert drift.index_of_distance(distance) == pytest.approx(
        drift.stability_index(reference, found), rel=0.01
    )


@pytest.mark.parametrize("bins", [2, 3, 5, 10, 20, 24])
@pytest.mark.parametrize("comparisons", [1, 5, 31])
def test_chance_is_the_quantile_of_chi_square(bins: int, comparisons: int):
    reference, found = np.full(bins, 1_000), np.full(bins, 50)
    expected = (1 / (50 * bins) + 1 / (1_000 * bins)) * chi2.ppf(1 - FALSE_ALARMS / comparisons, bins - 1)
    # Never less by more than a fiftieth; with one degree of freedom up to an eighth more.
    assert 0.98 <= drift.chance(reference, found, comparisons) / expected <= 1.13


@pytest.mark.parametrize("shares", [[0.5, 0.5], [0.9, 0.09, 0.01], [0.05] * 20, [0.96, *[0.005] * 8]])
@pytest.mark.parametrize("size", [30, 100, 1_000, 10_000])
def test_samples_of_one_distribution_seldom_go_beyond_chance(shares: list[float], size: int):
    random = np.random.default_rng(0)
    draws = 4_000
    beyond = 0
    for before, now in zip(
        random.multinomial(20_000, shares, draws), random.multinomial(size, shares, draws), strict=True
    ):
        beyond += drift.stability_index(before, now) > drift.chance(before, now, 1)
    # 4 are expected of 4,000; 14 and more have a chance of one in ten thousand.
    assert beyond <= 14


def test_levels_go_by_both_the_limits_and_chance():
    reference = histogram([5_000] * 4)
    assert judge(reference, rows(2_500, 2_500, 2_500, 2_500), 1).level == "none"
    assert judge(reference, rows(2_400, 2_600, 2_500, 2_500), 1).level == "none"
    moderate = judge(reference, rows(3_300, 1_700, 3_300, 1_700), 1)
    assert MODERATE <= moderate.index < GREAT
    assert moderate.level == "moderate"
    assert judge(reference, rows(5_000, 0, 2_500, 2_500), 1).level == "great"
    # A tiny drift that is surely there is none that matters.
    sure = judge(histogram([5_000_000] * 4), rows(101_000, 99_000, 100_000, 100_000) * 100, 1)
    assert sure.chance < sure.index < MODERATE
    assert sure.level == "none"


def test_few_rows_are_told_as_such_unless_the_drift_is_beyond_chance():
    reference = histogram([1_000] * 20)
    few = judge(reference, rows(*[2] * 10, *[1] * 10), 31)
    assert few.chance > GREAT
    assert few.level == "untold"
    assert judge(reference, rows(*[0] * 20), 31).level == "untold"
    assert judge(reference, rows(*[0] * 20, above=30), 31).level == "great"
    needed = drift.rows_needed(reference.counts, 31)
    assert needed is not None
    enough = np.array([0, *[needed // 20 + 1] * 20, 0, 0])
    assert drift.chance(reference.counts, enough, 31) <= GREAT
    assert drift.chance(reference.counts, enough * 19 // 20, 31) > GREAT
    assert drift.rows_needed(histogram([5] * 20).counts, 31) is None


@pytest.mark.parametrize("place", ["below", "above", "missing"])
def test_values_that_the_reference_never_had_are_a_bin_of_their_own(place: str):
    reference = histogram([5_000] * 4)
    found = judge(reference, rows(200, 200, 200, 200, **{place: 80}), 5)
    assert found.level == "great"
    # One such row in a thousand is nothing.
    assert judge(reference, rows(250, 250, 250, 250, **{place: 1}), 5).level == "none"


def test_missing_values_that_were_there_before_are_no_drift():
    reference = histogram([4_000] * 4, missing=4_000)
    assert judge(reference, rows(200, 200, 200, 200, missing=200), 5).level == "none"
    assert judge(reference, rows(250, 250, 250, 250), 5).level == "great"


def test_a_category_is_judged_by_both_measures():
    # Of so few rows the index, with half a row for each bin, hardly says that a value has gone.
    found = judge(category([9_050, 950]), rows(60, 0), 1)
    assert found.distance is not None
    assert found.index < GREAT <= drift.index_of_distance(found.distance)
    assert found.level == "great"
    # A number has no distance, and goes by the index alone.
    number = judge(histogram([9_050, 950]), rows(60, 0), 1)
    assert (number.index, number.distance, number.level) == (found.index, None, "moderate")


def test_an_unknown_value_of_a_category_is_found():
    reference = category([10_000, 9_000, 1_000])
    assert judge(reference, rows(500, 450, 50), 5).level == "none"
    assert judge(reference, rows(490, 440, 50, above=20), 5).level == "moderate"
    assert judge(reference, rows(470, 430, 50, above=50), 5).level == "great"
