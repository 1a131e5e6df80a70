"""How often drift is found where there is some, and where there is none: on built-in data, and on real data.

docs/drift.md has the figures, which the tests print.
"""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cache
from itertools import permutations
from pathlib import Path

import joblib
import numpy as np
import pytest

from model_bundle import drift, reference
from model_bundle.counter import Counter
from model_bundle.drift import Level
from model_bundle.manifest import Feature
from model_bundle.reference import Reference
from model_export import recipe, table, training
from model_export.export import _ranged
from model_export.recipe import Label
from model_export.reference import to_bytes
from model_export.split import Part, split
from model_export.training import Trained

SHARED = Path(os.environ.get("FOREST_SHARED", Path(__file__).parents[3] / "shared"))
FILES = {
    "fraud": "creditcard_train.csv.xz",
    "credit": "uci_default.csv.gz",
    "churn": "telco_churn.csv.gz",
    "demand": "bike_hour.csv.gz",
}
SAMPLES = 200
SIZES = (300, 1_000)

Rows = np.ndarray


@dataclass(frozen=True)
class Watched:
    """A model, its reference, and the rows that it was neither trained on nor that are in the reference.

    The score's reference is of the rows held out: that much they are known to it.
    """

    features: tuple[Feature, ...]
    reference: Reference
    trained: Trained
    train: Part
    held_out: Part

    def levels(self, rows: Rows) -> dict[str, Level]:
        counter = Counter(self.reference)
        counter.add_all(rows, self.trained.scores(rows))
        return {
            histogram.name: drift.judge(histogram, counts, len(self.reference)).level
            for histogram, counts in zip(self.reference, counter.parts(counter.take()), strict=True)
        }

    def column(self, name: str) -> int:
        return [feature.name for feature in self.features].index(name)


@cache
def watch(model: str, real: bool) -> Watched:
    """Train a small forest. Time is no part of the question: demand is split at random as the others are."""
    made = replace(recipe.find(model), split="random", generated_rows=8_000)
    made = replace(made, forest={**made.forest, "n_estimators": 32})
    source = table.read(SHARED / "data" / FILES[model], made) if real else table.generate(made, 0)
    parts = split(source, made, 0)
    features = _ranged(made.features, parts.train)
    with joblib.parallel_config("threading", n_jobs=1):
        trained = training.train(made, parts.train, 0)
        scores = trained.scores(parts.test.rows)
    content = to_bytes(features, parts.train, scores, isinstance(made.target, Label))
    return Watched(features, reference.from_bytes(content, features), trained, parts.train, parts.test)


@pytest.fixture(params=["generator", "real"])
def watched(request: pytest.FixtureRequest, model: str) -> Watched:
    if request.param == "real" and not (SHARED / "data" / FILES[model]).exists():
        pytest.skip(f"{FILES[model]} is not in {SHARED / 'data'}")
    return watch(model, request.param == "real")


@pytest.fixture
def tell(request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]) -> Callable[[str], None]:
    """Return a function that prints a line, also where nothing fails."""

    def say(line: str) -> None:
        with capsys.disabled():
            print(f"\n{request.node.callspec.id}: {line}", end="")

    return say


def draws(rows: Rows, size: int) -> Iterator[Rows]:
    random = np.random.default_rng(size)
    for _ in range(SAMPLES):
        yield rows[random.choice(len(rows), size, replace=False)]


@pytest.mark.parametrize("model", FILES)
def test_a_fresh_sample_has_not_drifted(watched: Watched, tell: Callable[[str], None]):
    comparisons = 0
    found: dict[str, int] = {}
    for size in SIZES:
        if size > len(watched.held_out.rows):
            continue
        for rows in draws(watched.held_out.rows, size):
            levels = watched.levels(rows)
            comparisons += 1
            assert "untold" not in levels.values()
            if "great" in levels.values():
                found["great"] = found.get("great", 0) + 1
            elif "moderate" in levels.values():
                found["moderate"] = found.get("moderate", 0) + 1
    whole = watched.levels(watched.held_out.rows)
    tell(
        f"fresh: {found.get('great', 0)} great, {found.get('moderate', 0)} moderate of {comparisons} samples; "
        f"all {len(watched.held_out.rows)} rows held out: {set(whole.values())}"
    )
    assert comparisons
    assert found.get("great", 0) == 0
    assert found.get("moderate", 0) <= 0.005 * comparisons
    assert set(whole.values()) == {"none"}


@pytest.mark.parametrize("model", FILES)
def test_a_number_shifted_by_a_standard_deviation_is_found(watched: Watched, tell: Callable[[str], None]):
    numbers = [index for index, feature in enumerate(watched.features) if feature.type == "number"]
    for size in SIZES:
        lost = []
        for index in numbers:
            rows = next(draws(watched.held_out.rows, size))
            rows[:, index] += np.nanstd(watched.train.rows[:, index])
            levels = watched.levels(rows)
            others = [name for place, name in enumerate(levels) if place not in (index, len(levels) - 1)]
            assert not [name for name in others if levels[name] == "great"]
            if levels[watched.features[index].name] != "great":
                lost.append(watched.features[index].name)
        tell(f"shift, {size} rows: {len(numbers) - len(lost)} of {len(numbers)} found {lost}")
        assert not lost


@pytest.mark.parametrize("model", ["credit"])
def test_months_in_another_order_are_found(watched: Watched, tell: Callable[[str], None]):
    states = [watched.column(f"PAY_{month}") for month in (0, 2, 3, 4, 5, 6)]
    bills = [watched.column(f"BILL_AMT{month}") for month in range(1, 7)]
    paid = [watched.column(f"PAY_AMT{month}") for month in range(1, 7)]
    orders = [order for order in permutations(range(6)) if order[0] != 0]
    chosen = np.random.default_rng(0).permutation(len(orders))[:100]
    found, moderate = 0, 0
    for number in chosen:
        order = list(orders[number])
        rows = next(draws(watched.held_out.rows, 1_000))
        for columns in (states, bills, paid):
            rows[:, columns] = rows[:, [columns[place] for place in order]]
        levels = set(watched.levels(rows).values())
        found += "great" in levels
        moderate += "moderate" in levels
    backwards = watched.held_out.rows.copy()
    for columns in (states, bills, paid):
        backwards[:, columns] = backwards[:, columns[::-1]]
    levels = {name: level for name, level in watched.levels(backwards).items() if level != "none"}
    tell(f"months: {found} great, {moderate} moderate of {len(chosen)} orders; backwards {levels}")


@pytest.mark.parametrize("model", ["demand"])
def test_a_season_and_a_month_are_found(watched: Watched, tell: Callable[[str], None]):
    everything = np.concatenate([watched.train.rows, watched.held_out.rows])
    month = everything[:, watched.column("mnth")]
    for name, groups in (
        ("seasons", [(12, 1, 2), (3, 4, 5), (6, 7, 8), (9, 10, 11)]),
        ("months", [(number,) for number in range(1, 13)]),
    ):
        found, without = 0, 0
        looked = 0
        what = []
        for group in groups:
            rows = everything[np.isin(month, group)]
            if not len(rows):
                continue
            looked += 1
            levels = watched.levels(rows[np.random.default_rng(0).choice(len(rows), 300, replace=False)])
            found += levels["mnth"] == "great"
            without += any(level == "great" for name, level in levels.items() if name != "mnth")
            what.append([name for name, level in levels.items() if level == "great"])
        tell(f"{name}: {found} of {looked} found by the month, {without} without it {what}")
    rows = watched.held_out.rows.copy()
    np.random.default_rng(0).shuffle(rows[:, watched.column("mnth")])
    tell(f"the months' column shuffled: {[n for n, l in watched.levels(rows).items() if l != 'none']}")
