"""The recipes on real data, with the functions that export uses."""

import os
from collections.abc import Iterator
from pathlib import Path

import joblib
import numpy as np
import pytest
from sklearn.metrics import r2_score, roc_auc_score
from sklearn.model_selection import StratifiedGroupKFold

from model_bundle.decision import Estimate
from model_export import fit, interval, recipe, table, threshold, training
from model_export.recipes.fraud import RECIPE
from model_export.split import Part, split

SHARED = Path(os.environ.get("FOREST_SHARED", Path(__file__).parents[3] / "shared"))
PAYMENTS = SHARED / "data" / "creditcard_train.csv.xz"

FOLDS, REPEATS = 5, 3
# The file has every fraud, but only a part of the legitimate payments: one stands for so many.
NATURAL = 6.6
RESAMPLES = 2_000


def folds(
    labels: np.ndarray, groups: np.ndarray, repeats: int = REPEATS
) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    for repeat in range(repeats):
        splitter = StratifiedGroupKFold(FOLDS, shuffle=True, random_state=repeat)
        for train, held_out in splitter.split(labels, labels, groups):
            yield repeat, train, held_out


def f1(outcomes: np.ndarray, weight: float) -> float:
    """Return F1 of counts of true positives, false positives and false negatives."""
    true, false, missed = outcomes
    return float(2 * true / (2 * true + weight * false + missed))


def f1_interval(outcomes: np.ndarray, weight: float) -> tuple[float, float]:
    """Return the 95 % bootstrap percentile interval over rows, each with its outcomes of all repeats."""
    random = np.random.default_rng(0)
    relevant = outcomes[outcomes.any(axis=1)]
    drawn = random.poisson(1.0, (RESAMPLES, len(relevant))) @ relevant
    low, high = np.quantile([f1(counts, weight) for counts in drawn], (0.025, 0.975))
    return float(low), float(high)


@pytest.mark.skipif(not PAYMENTS.exists(), reason=f"the card payments are not at {PAYMENTS}")
@pytest.mark.timeout(1200)
def test_finds_fraud_in_payments_held_out(capsys: pytest.CaptureFixture[str]):
    payments = table.read(PAYMENTS, RECIPE)
    rows, labels = payments.rows, payments.targets
    # Copies of a row stay in one fold: a copy of a training row would tell nothing.
    groups = np.unique(rows, axis=0, return_inverse=True)[1].reshape(-1)
    outcomes = {weight: np.zeros((len(labels), 3), np.int64) for weight in (1.0, NATURAL)}
    by_repeat = {weight: np.zeros((REPEATS, 3), np.int64) for weight in outcomes}
    with joblib.parallel_config("threading", n_jobs=2):
        for repeat, train, held_out in folds(labels, groups):
            part = Part(rows[train], labels[train])
            trained = training.train(RECIPE, part, repeat)
            validation, validation_scores = training.out_of_bag(trained, part)
            scores, truth = trained.scores(rows[held_out]), labels[held_out] == 1
            for weight, counts in outcomes.items():
                called = scores >= threshold.choose(validation_scores, validation.targets, weight)
                outcome = np.column_stack([called & truth, called & ~truth, ~called & truth])
                counts[held_out] += outcome
                by_repeat[weight][repeat] += outcome.sum(axis=0)
    pooled = {}
    for weight, counts in outcomes.items():
        pooled[weight] = f1(counts.sum(axis=0), weight)
        low, high = f1_interval(counts, weight)
        repeats = ", ".join(f"{f1(each, weight):.4f}" for each in by_repeat[weight])
        with capsys.disabled():
            print(
                f"\nF1 {pooled[weight]:.4f} ({low:.4f} to {high:.4f}), legitimate rows weighing {weight}; "
                f"repeats: {repeats}"
            )
    assert pooled[1.0] >= 0.87
    assert pooled[NATURAL] >= 0.80


def data(name: str) -> Path:
    path = SHARED / "data" / name
    if not path.exists():
        pytest.skip(f"the data are not at {path}")
    return path


@pytest.mark.timeout(1200)
@pytest.mark.parametrize(
    ("name", "file", "repeats", "least"),
    [("credit", "uci_default.csv.gz", 2, 0.77), ("churn", "telco_churn.csv.gz", 3, 0.84)],
)
def test_ranks_who_defaults_and_who_leaves(
    name: str, file: str, repeats: int, least: float, capsys: pytest.CaptureFixture[str]
):
    found = recipe.find(name)
    read = table.read(data(file), found)
    groups = np.unique(read.rows, axis=0, return_inverse=True)[1].reshape(-1)
    areas = []
    with joblib.parallel_config("threading", n_jobs=2):
        for repeat, train, held_out in folds(read.targets, groups, repeats):
            trained = training.train(found, Part(read.rows[train], read.targets[train]), repeat)
            areas.append(roc_auc_score(read.targets[held_out], trained.scores(read.rows[held_out])))
    with capsys.disabled():
        print(f"\n{name}: ROC-AUC {np.mean(areas):.4f}, from {min(areas):.4f} to {max(areas):.4f}")
    assert np.mean(areas) >= least


@pytest.mark.timeout(1200)
@pytest.mark.parametrize(("name", "least"), [("demand", 0.94), ("demand-day", 0.88)])
def test_predicts_demand_that_is_later_than_all_it_has_learnt(
    name: str, least: float, capsys: pytest.CaptureFixture[str]
):
    found = recipe.find(name)
    parts = split(table.read(data("bike_hour.csv.gz"), found), found, 0)
    with joblib.parallel_config("threading", n_jobs=2):
        trained = training.train(found, parts.train, 0)
        values, true = interval.unseen(trained, found, parts.train, 0)
    step = trained.step / len(trained.forest.estimators_)
    estimate = Estimate(interval.make(values, true, found.target, step, ""))
    scores = trained.scores(parts.test.rows)
    low, high = fit.intervals(scores, estimate)
    coverage = ((low <= parts.test.targets) & (parts.test.targets <= high)).mean()
    explained = r2_score(parts.test.targets, scores)
    with capsys.disabled():
        print(f"\n{name}: R2 {explained:.4f}, coverage {coverage:.3f}, mean width {(high - low).mean():.1f}")
    assert explained >= least
    assert abs(coverage - found.target.coverage) <= 0.03
