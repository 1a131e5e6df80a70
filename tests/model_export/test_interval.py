"""Intervals: that they hold the share they are made for, and by which rows."""

from dataclasses import replace

import numpy as np
import pytest

from model_bundle.decision import Estimate
from model_export import interval
from model_export.interval import IntervalError
from model_export.recipe import Quantity
from model_export.recipes.demand import RECIPE
from model_export.split import Part
from model_export.training import Trained, train

TARGET = Quantity(("cnt",), "bikes", least=0)
STEP = 2.0**-10


def drawn(seed: int, rows: int) -> tuple[np.ndarray, np.ndarray]:
    """Return values, and true ones whose errors are skewed and grow with the value."""
    random = np.random.default_rng(seed)
    values = np.round(random.gamma(2, 50, rows) / STEP) * STEP
    return values, np.maximum(values * (1 + 0.4 * (random.gamma(2, 0.5, rows) - 1)), 0)


@pytest.mark.parametrize("coverage", [0.5, 0.9])
def test_new_rows_are_held_as_often_as_aimed_at_in_every_band(coverage: float):
    made = interval.make(*drawn(0, 4_000), replace(TARGET, coverage=coverage), STEP, "by hand")
    estimate = Estimate(made)
    values, true = drawn(1, 40_000)
    low, high = np.array([estimate.interval(value) for value in values.tolist()]).T
    held = (low <= true) & (true <= high)
    band = np.searchsorted(made.cuts, values, side="right")
    assert len(made.cuts) == 9
    assert held.mean() == pytest.approx(coverage, abs=0.02)
    assert [held[band == index].mean() for index in range(10)] == pytest.approx([coverage] * 10, abs=0.09)
    # Errors grow with the value, and so do the intervals.
    assert made.above[-1] > 3 * made.above[0]
    assert (made.coverage, made.method, made.least) == (coverage, "by hand", 0)


def test_the_reach_is_the_rank_of_split_conformal_prediction():
    random = np.random.default_rng(2)
    errors = random.permutation(np.arange(-60.0, 139.0))
    made = interval.make(np.full(199, 500.0), 500 + errors, TARGET, STEP, "")
    # 95 % of 200 are 190: the 190th of the 199 residuals, from either end.
    assert (made.cuts, made.above, made.below) == ((), (129.0,), (51.0,))


def test_cuts_lie_where_no_value_can_be():
    values, true = drawn(3, 2_000)
    for cut in interval.make(values, true, TARGET, STEP, "").cuts:
        assert cut / STEP % 1 == 0.5


def test_values_that_most_rows_share_make_fewer_bands_and_none_without_rows():
    values = np.concatenate([np.zeros(900), np.arange(100.0)])
    made = interval.make(values, values + 1, TARGET, STEP, "")
    counts = np.bincount(np.searchsorted(made.cuts, values, side="right"), minlength=len(made.cuts) + 1)
    assert counts.min() >= 50
    assert set(made.above) == {1.0}
    assert set(made.below) == {0.0}


def test_refuses_too_few_rows():
    with pytest.raises(IntervalError, match="99 rows that the forest had not seen are too few"):
        interval.make(np.arange(99.0), np.arange(99.0), TARGET, STEP, "")


def noisy(rows: int) -> Part:
    random = np.random.default_rng(4)
    made = random.normal(size=(rows, len(RECIPE.features))).astype(np.float32)
    return Part(made, 100 + 10 * made[:, 0] + random.normal(0, 10, rows))


def test_by_time_each_stretch_is_predicted_by_a_forest_that_saw_only_what_came_before():
    recipe = replace(RECIPE, forest={"n_estimators": 8})
    part = noisy(400)
    values, true = interval.unseen(train(recipe, part, 0), recipe, part, 0)
    assert np.array_equal(true, part.targets[200:])
    # What comes later than a stretch changes nothing in it.
    later = Part(part.rows, np.concatenate([part.targets[:240], part.targets[240:] * 5]))
    changed, _ = interval.unseen(train(recipe, later, 0), recipe, later, 0)
    assert np.array_equal(values[:40], changed[:40])
    assert not np.array_equal(values[80:], changed[80:])


def test_without_an_order_rows_are_those_out_of_bag():
    recipe = replace(RECIPE, split="random", forest={"n_estimators": 64})
    part = noisy(400)
    trained: Trained = train(recipe, part, 0)
    values, true = interval.unseen(trained, recipe, part, 0)
    assert len(values) == len(true) == 400
    seen = np.abs(trained.scores(part.rows) - part.targets).mean()
    assert np.abs(values - true).mean() > 1.5 * seen
