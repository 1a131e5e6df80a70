"""The metrics against scikit-learn's, and their intervals against a plain bootstrap."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics as reference

from model_export import metrics
from model_export.tally import Tally

SCORED = st.lists(st.tuples(st.integers(0, 8), st.integers(0, 1)), min_size=2, max_size=60).filter(
    lambda rows: len({label for _, label in rows}) == 2
)


@given(rows=SCORED, cut=st.integers(0, 8))
def test_figures_are_scikit_learns(rows: list[tuple[int, int]], cut: int):
    scores = np.array([score / 8 for score, _ in rows])
    labels = np.array([label for _, label in rows], np.int8)
    threshold = (cut + 0.5) / 8
    figures = metrics.figures(Tally.of(scores, labels), threshold)
    called = scores >= threshold
    expected = {
        "f1": reference.f1_score(labels, called, zero_division=0),
        "precision": reference.precision_score(labels, called, zero_division=0),
        "recall": reference.recall_score(labels, called),
        "pr_auc": reference.average_precision_score(labels, scores),
        "roc_auc": reference.roc_auc_score(labels, scores),
        "brier": reference.brier_score_loss(labels, scores),
    }
    assert {name: float(value) for name, value in figures.items()} == pytest.approx(expected)


@pytest.fixture
def scored() -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(4)
    labels = (np.arange(500) < 60).astype(np.int8)
    return (random.normal(size=500) + 2 * labels).round(1).clip(-1, 3) / 4 + 0.25, labels


def test_intervals_are_those_of_a_plain_stratified_bootstrap(scored):
    scores, labels = scored
    measured = metrics.measure(scores, labels, 0.6, 0)
    random = np.random.default_rng(9)
    drawn = []
    for _ in range(1_500):
        chosen = np.concatenate(
            [random.choice(np.flatnonzero(labels == label), (labels == label).sum()) for label in (0, 1)]
        )
        drawn.append(metrics.figures(Tally.of(scores[chosen], labels[chosen]), 0.6))
    for name, metric in measured.items():
        low, high = np.quantile([float(figures[name]) for figures in drawn], (0.025, 0.975))
        assert metric.low == pytest.approx(low, abs=0.2 * (high - low))
        assert metric.high == pytest.approx(high, abs=0.2 * (high - low))
        assert metric.low <= metric.value <= metric.high


def test_the_same_seed_gives_the_same_intervals(scored):
    assert metrics.measure(*scored, 0.6, 1) == metrics.measure(*scored, 0.6, 1)
    assert metrics.measure(*scored, 0.6, 1) != metrics.measure(*scored, 0.6, 2)


def test_a_threshold_that_calls_nothing_positive_gives_zeros():
    measured = metrics.measure(np.array([0.1, 0.2, 0.3]), np.array([0, 0, 1], np.int8), 0.9, 0)
    for name in ("f1", "precision", "recall"):
        assert (measured[name].value, measured[name].low, measured[name].high) == (0, 0, 0)
    assert measured["roc_auc"].value == 1


def test_one_positive_row_gives_finite_intervals():
    scores, labels = np.array([0.1, 0.1, 0.6, 0.6]), np.array([0, 0, 0, 1], np.int8)
    for metric in metrics.measure(scores, labels, 0.5, 0).values():
        assert np.isfinite([metric.value, metric.low, metric.high]).all()
