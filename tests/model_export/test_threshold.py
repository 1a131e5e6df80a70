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
def test_no_cut_between_two_scores_has_a_greater_f1(rows: list[tuple[int, int]]):
    scores = np.array([score / 2**20 for score, _ in rows])
    labels = np.array([label for _, label in rows], np.int8)
    chosen = threshold.choose(scores, labels)
    assert scores.min() < chosen < scores.max()
    assert chosen * 2**21 % 2 == 1
    best = max(f1_score(labels, scores >= cut) for cut in np.unique(scores)[1:])
    assert f1_score(labels, scores >= chosen) == pytest.approx(best)


def test_of_equally_good_gaps_it_takes_the_widest():
    scores, labels = np.array([0.9, 0.75, 0.7, 0.125, 0.0]), np.array([1, 1, 0, 1, 0], np.int8)
    assert threshold.choose(scores, labels) == pytest.approx(0.0625, abs=1e-6)
    assert threshold.choose(scores[[0, 1, 4]], labels[[0, 1, 4]]) == pytest.approx(0.375, abs=1e-6)


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
