import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import f1_score

from model_export import risk, threshold
from model_export.threshold import ThresholdError

SCORED = st.lists(st.tuples(st.integers(0, 2**20), st.integers(0, 1)), min_size=2, max_size=40).filter(
    lambda rows: len({label for _, label in rows}) == 2 and len({score for score, _ in rows}) > 1
)


@given(SCORED)
def test_lies_between_two_scores_and_off_the_grid(rows: list[tuple[int, int]]):
    scores = np.array([score / 2**20 for score, _ in rows])
    chosen = threshold.choose(scores, np.array([label for _, label in rows], np.int8))
    assert scores.min() < chosen < scores.max()
    assert chosen * 2**21 % 2 == 1


def drawn(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return scores that are true probabilities, and labels drawn by them."""
    random = np.random.default_rng(seed)
    scores = np.round(random.beta(0.05, 1, 20_000), 3)
    return scores, (random.random(scores.size) < scores).astype(np.int8)


def test_is_nearly_the_best_cut_of_rows_that_it_was_not_chosen_on():
    chosen = threshold.choose(*drawn(0))
    scores, labels = drawn(1)
    best = max(f1_score(labels, scores >= cut) for cut in np.linspace(0.05, 0.95, 91))
    assert f1_score(labels, scores >= chosen) > best - 0.01


def test_hangs_less_on_the_sample_than_the_best_cut_of_its_rows():
    samples = [drawn(seed) for seed in range(8)]
    cuts = np.linspace(0.05, 0.95, 91)
    best = [cuts[np.argmax([f1_score(labels, scores >= cut) for cut in cuts])] for scores, labels in samples]
    assert np.std([threshold.choose(*sample) for sample in samples]) < np.std(best) / 2


def test_is_higher_where_negatives_weigh_more():
    scores, labels = drawn(0)
    assert threshold.choose(scores, labels, 6.6) > threshold.choose(scores, labels) + 0.05


def test_refuses_scores_that_are_all_the_same():
    with pytest.raises(ThresholdError, match=r"every row the same probability, 0\.25"):
        threshold.choose(np.full(4, 0.25), np.array([0, 1, 0, 1], np.int8))


@given(st.integers(2, 2**20 - 3))
def test_risk_levels_ascend_about_the_threshold(step: int):
    chosen = (2 * step + 1) / 2**21
    levels = risk.levels(chosen)
    minimums = [level.minimum for level in levels]
    assert [level.name for level in levels] == ["low", "medium", "high", "critical"]
    assert minimums[0] == 0
    assert minimums == sorted(set(minimums))
    assert minimums[2] == chosen
    assert all(minimum * 2**21 % 2 == 1 for minimum in minimums[1:])
