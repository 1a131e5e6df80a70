"""That probabilities are exact, and that thresholds are not among them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model_export.grid import LEAF_STEP, MAX_TREES, off_grid
from model_export.recipes.fraud import RECIPE
from model_export.split import Part
from model_export.training import train


@given(
    leaves=st.lists(st.integers(0, 4096), min_size=256, max_size=256),
    trees=st.sampled_from([1, 2, 32, 128, 256]),
    random=st.randoms(use_true_random=False),
)
def test_a_mean_of_leaves_is_the_same_in_float32_and_float64_in_any_order(leaves, trees, random):
    chosen = [leaf * LEAF_STEP for leaf in leaves[:trees]]
    exact = sum(leaves[:trees]) / 4096 / trees
    shuffled = random.sample(chosen, trees)
    total = np.float32(0)
    for leaf in shuffled:
        total += np.float32(leaf / trees)
    assert total.dtype == np.float32
    assert float(total) == exact == sum(shuffled) / trees


@given(st.floats(0, 1, exclude_max=True))
def test_off_grid_is_near_and_is_no_attainable_probability(probability: float):
    moved = off_grid(probability)
    steps = moved * MAX_TREES / LEAF_STEP
    assert steps % 1 == 0.5
    assert abs(moved - probability) <= 2.0**-21
    assert float(np.float32(moved)) == moved
    assert 0 < moved < 1


@given(st.integers(0, 2**20 - 1), st.integers(0, 2**20 - 1))
def test_off_grid_stays_between_two_scores(one: int, other: int):
    low, high = sorted((one / 2**20, other / 2**20))
    assert low < off_grid((low + high) / 2)
    assert low == high or off_grid((low + high) / 2) < high


@pytest.mark.parametrize("trees", [1, 16, 256])
def test_a_trained_forest_is_on_the_grid(trees: int):
    random = np.random.default_rng(0)
    rows = random.normal(size=(600, 30)).astype(np.float32)
    labels = (rows[:, 0] + random.normal(size=600) > 1).astype(np.int8)
    recipe = type(RECIPE)(
        **{name: getattr(RECIPE, name) for name in RECIPE.__slots__ if name != "forest"},
        forest={"n_estimators": trees, "min_samples_leaf": 7},
    )
    trained = train(recipe, Part(rows, labels), 0)
    forest = trained.forest
    for estimator in forest.estimators_:
        values = estimator.tree_.value[:, 0]
        assert (values.sum(axis=1) == 1).all()
        assert (values[:, 1] / LEAF_STEP % 1 == 0).all()
        assert np.array_equal(estimator.predict_proba(rows), values[estimator.apply(rows)])
    scores = trained.scores(rows)
    assert (scores * 2**20 % 1 == 0).all()
    assert np.unique(scores).size > 1
