"""How often drift is found where there is some, and where there is none: on built-in data, and on real data.

docs/drift.md has the figures, which the tests print.
"""

import os
from collections import Counter as Counted
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

    def levels(self, rows: Rows, scores: np.ndarray | None = None) -> dict[str, Level]:
        counter = Counter(self.reference)
        counter.add_all(rows, self.trained.scores(rows) if scores is None else scores)
        return {
            histogram.name: drift.judge(
                histogram.counts, counts, len(self.reference), discrete=histogram.discrete
            ).level
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


def step(values: np.ndarray) -> float:
    """Return a standard deviation; of whole numbers the next whole one: others are in no value's place."""
    deviation = float(np.nanstd(values))
    return deviation if (values[~np.isnan(values)] % 1).any() else max(round(deviation), 1)


def draws(rows: Rows, size: int) -> Iterator[np.ndarray]:
    """Return the places of some rows, again and again."""
    random = np.random.default_rng(size)
    for _ in range(SAMPLES):
        yield random.choice(len(rows), size, replace=False)


@pytest.mark.parametrize("model", FILES)
def test_a_fresh_sample_has_not_drifted(watched: Watched, tell: Callable[[str], None]):
    held_out = watched.held_out.rows
    scores = watched.trained.scores(held_out)
    comparisons = 0
    found: dict[str, int] = {}
    for size in SIZES:
        if size > len(held_out):
            continue
        for drawn in draws(held_out, size):
            levels = watched.levels(held_out[drawn], scores[drawn])
            comparisons += 1
            assert "untold" not in levels.values()
            if "great" in levels.values():
                found["great"] = found.get("great", 0) + 1
            elif "moderate" in levels.values():
                found["moderate"] = found.get("moderate", 0) + 1
    whole = watched.levels(held_out, scores)
    tell(f"fresh: {found} of {comparisons} samples; all {len(held_out)} rows held out: {set(whole.values())}")
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
            name = watched.features[index].name
            values = watched.train.rows[:, index]
            rows = watched.held_out.rows[next(draws(watched.held_out.rows, size))]
            before = rows[:, index].copy()
            for shift in (float(np.nanstd(values)), step(values)):
                rows[:, index] = before + shift
                levels = watched.levels(rows)
                assert {levels[each] for each in levels if each not in (name, "score")} <= {
                    "none",
                    "moderate",
                }
                if levels[name] != "great":
                    lost.append((name, shift))
        tell(f"shift, {size} rows: {len(numbers) - len(lost)} of {len(numbers)} found; not {lost}")
        # Whole numbers, of which there are few: what is between them is in the bin of the lower one.
        assert {name for name, _ in lost} <= {"weathersit"}
        assert not [name for name, shift in lost if shift % 1 == 0]


@pytest.mark.skipif(
    not (SHARED / "data" / FILES["credit"]).exists(), reason="the generator's months are alike"
)
def test_months_in_another_order_are_found(capsys: pytest.CaptureFixture[str]):
    watched = watch("credit", True)
    of_months = [
        [watched.column(f"PAY_{month}") for month in (0, 2, 3, 4, 5, 6)],
        [watched.column(f"BILL_AMT{month}") for month in range(1, 7)],
        [watched.column(f"PAY_AMT{month}") for month in range(1, 7)],
    ]
    # What is told of the newest month is spread otherwise than what is told of those before it.
    found = {True: Counted(), False: Counted()}
    orders = list(permutations(range(6)))[1:]
    for order in np.random.default_rng(0).permutation(orders)[:SAMPLES]:
        rows = watched.held_out.rows[next(draws(watched.held_out.rows, 1_000))]
        for columns in of_months:
            rows[:, columns] = rows[:, [columns[place] for place in order]]
        levels = set(watched.levels(rows).values())
        found[bool(order[0])][next(level for level in ("great", "moderate", "none") if level in levels)] += 1
    with capsys.disabled():
        print(
            f"\nreal-credit: months in another order: the newest moved {found[True]}, not {found[False]}",
            end="",
        )
    assert found[True]["great"] >= 0.9 * found[True].total()
    assert found[False]["none"] <= 0.5 * found[False].total()


@pytest.mark.parametrize("model", ["demand"])
def test_a_season_or_a_month_by_itself_is_found(watched: Watched, tell: Callable[[str], None]):
    everything = np.concatenate([watched.train.rows, watched.held_out.rows])
    month = everything[:, watched.column("mnth")]
    random = np.random.default_rng(0)
    for name, groups in (
        ("seasons", [(12, 1, 2), (3, 4, 5), (6, 7, 8), (9, 10, 11)]),
        ("months", [(number,) for number in range(1, 13)]),
    ):
        found, by_others, looked = 0, 0, 0
        for group in groups:
            rows = random.permutation(everything[np.isin(month, group)])[:1_000]
            if len(rows) < SIZES[0]:
                continue
            looked += 1
            levels = watched.levels(rows)
            great = {feature for feature, level in levels.items() if level == "great"}
            found += "mnth" in great
            by_others += bool(great - {"mnth"})
        tell(f"{name}: {found} of {looked} found by mnth, {by_others} of {looked} by others")
        assert looked >= 2
        assert found == looked
        assert by_others >= 0.75 * looked


@pytest.mark.parametrize("model", ["demand"])
def test_what_only_goes_together_otherwise_is_not_found(watched: Watched):
    # Said in docs/drift.md: each feature is judged alone.
    rows = watched.held_out.rows.copy()
    np.random.default_rng(0).shuffle(rows[:, watched.column("mnth")])
    levels = watched.levels(rows)
    assert {level for name, level in levels.items() if name != "score"} == {"none"}
