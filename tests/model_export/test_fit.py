"""The metrics of a regression against scikit-learn's, and their intervals against a plain bootstrap."""

import numpy as np
import pytest
from sklearn import metrics as reference

from model_bundle.decision import Estimate
from model_bundle.manifest import Interval
from model_export import fit

ESTIMATE = Estimate(Interval(0.9, "", 0.0, (100.0,), (20.0, 40.0), (20.0, 40.0)))


@pytest.fixture
def scored() -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(4)
    true = random.gamma(2, 60, 700)
    return true + random.normal(0, 20, 700), true


def test_figures_are_scikit_learns(scored):
    values, true = scored
    measured = fit.measure(values, true, ESTIMATE, 1, 0)
    assert measured["r2"].value == pytest.approx(reference.r2_score(true, values), abs=1e-6)
    assert measured["mae"].value == pytest.approx(reference.mean_absolute_error(true, values), abs=1e-6)
    assert measured["rmse"].value == pytest.approx(reference.root_mean_squared_error(true, values), abs=1e-6)
    low, high = np.array([ESTIMATE.interval(value) for value in values.tolist()]).T
    held = ((low <= true) & (true <= high)).mean()
    assert measured["coverage"].value == pytest.approx(held, abs=1e-6)
    assert measured["width"].value == pytest.approx((high - low).mean(), abs=1e-6)


def test_intervals_are_those_of_a_plain_bootstrap_where_blocks_are_one_row(scored):
    values, true = scored
    measured = fit.measure(values, true, ESTIMATE, 1, 0)
    random = np.random.default_rng(9)
    drawn = [random.integers(0, len(true), len(true)) for _ in range(1_500)]
    for name, score in (("r2", reference.r2_score), ("mae", reference.mean_absolute_error)):
        low, high = np.quantile([score(true[rows], values[rows]) for rows in drawn], (0.025, 0.975))
        assert measured[name].low == pytest.approx(low, abs=0.15 * (high - low))
        assert measured[name].high == pytest.approx(high, abs=0.15 * (high - low))


def test_blocks_make_intervals_wider_where_neighbours_are_alike():
    random = np.random.default_rng(1)
    errors = np.convolve(random.normal(size=2_000), np.ones(30), "same")
    true = random.gamma(2, 60, 2_000)
    alone, blocks = (fit.measure(true + errors, true, ESTIMATE, block, 0)["mae"] for block in (1, 60))
    assert blocks.high - blocks.low > 2 * (alone.high - alone.low)
    assert blocks.value == alone.value


def test_the_same_seed_gives_the_same_intervals(scored):
    assert fit.measure(*scored, ESTIMATE, 5, 1) == fit.measure(*scored, ESTIMATE, 5, 1)
    assert fit.measure(*scored, ESTIMATE, 5, 1) != fit.measure(*scored, ESTIMATE, 5, 2)
