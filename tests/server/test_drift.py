"""Sliding windows over what the processes count, and who begins anew."""

import numpy as np
import pytest

from server.drift import BLOCKS, ROWS, Drift
from server.store import Store

WINDOW = 600.0


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


class Model:
    """What one process counts of one model: one number, and the score."""

    def __init__(self, store: Store, reference: list[int], version: str = "1.0.0"):
        self.of = {"model": "fraud", "version": version}
        labels = self.of | {"digest": "", "task": "", "created": "", "metrics": "{}"}
        self.present = store.cells("model", labels, 2)
        self.present[0] = 1
        self.rows = {}
        for feature in ("x", "score"):
            labels = self.of | {"feature": feature, "discrete": "0"}
            cells = store.cells("data_reference", labels, len(reference))
            for place, count in enumerate(reference):
                cells[place] = count
            self.rows[feature] = store.cells(ROWS, self.of | {"feature": feature}, len(reference))

    def score(self, *counts: int) -> None:
        for cells in self.rows.values():
            for place, count in enumerate(counts):
                cells[place] += count


REFERENCE = [0, 5_000, 5_000, 0, 0]


@pytest.fixture
def clock() -> Clock:
    return Clock()


def levels(drift: Drift, *stores: Store) -> dict[tuple[str, str], tuple[int, str]]:
    found = drift.look([store.read() for store in stores])
    return {(each.version, each.name): (each.judgement.rows, each.judgement.level) for each in found}


def test_rows_of_all_processes_count_for_as_long_as_the_window(clock: Clock) -> None:
    stores = [Store(), Store()]
    drift = Drift(WINDOW, clock)
    levels(drift, *stores)
    for store in stores:
        Model(store, REFERENCE).score(0, 10, 490, 0, 0)
    clock.now = 60
    assert levels(drift, *stores) == {
        ("1.0.0", "x"): (1_000, "great"),
        ("1.0.0", "score"): (1_000, "great"),
    }
    # Only these are new, and they are as the reference.
    Model(stores[1], REFERENCE).score(0, 600, 600, 0, 0)
    clock.now = WINDOW - 1
    assert levels(drift, *stores)["1.0.0", "x"] == (2_200, "moderate")
    clock.now = 60 + WINDOW + 1
    assert levels(drift, *stores)["1.0.0", "x"] == (1_200, "none")
    clock.now += WINDOW
    assert levels(drift, *stores)["1.0.0", "x"] == (0, "untold")
    assert drift.block == WINDOW / BLOCKS


def test_however_seldom_it_is_looked_at_no_row_counts_twice_or_for_ever(clock: Clock) -> None:
    store, drift, random = Store(), Drift(WINDOW, clock), np.random.default_rng(0)
    model = Model(store, REFERENCE)
    model.score(0, 1_000, 0, 0, 0)
    # Nobody knows when what was there before the first look came.
    assert levels(drift, store)["1.0.0", "x"][0] == 0
    scored: list[tuple[float, int]] = []
    for _ in range(300):
        clock.now += float(random.exponential(WINDOW / 40))
        count = int(random.integers(0, 20))
        model.score(0, count, 0, 0, 0)
        scored.append((clock.now, count))
        # Judged anew each time.
        drift._good_until = 0.0
        ((rows, _), _) = levels(drift, store).values()
        newest = sum(count for when, count in scored if when > clock.now - WINDOW + 2 * drift.block)
        all_of_it = sum(count for when, count in scored if when > clock.now - WINDOW - drift.block)
        assert newest <= rows <= all_of_it


def test_of_two_who_ask_at_once_the_slower_one_counts_no_row_again(clock: Clock) -> None:
    store = Store()
    model, drift = Model(store, REFERENCE), Drift(WINDOW, clock)
    levels(drift, store)
    model.score(0, 100, 100, 0, 0)
    earlier = store.read()
    model.score(0, 10, 10, 0, 0)
    levels(drift, store)
    drift.look([earlier])
    clock.now = 2
    assert levels(drift, store)["1.0.0", "x"][0] == 220


def test_a_model_that_comes_back_or_has_another_reference_begins_anew(clock: Clock) -> None:
    store, drift = Store(), Drift(WINDOW, clock)
    levels(drift, store)
    model = Model(store, REFERENCE)
    model.score(0, 500, 500, 0, 0)
    assert levels(drift, store)["1.0.0", "x"] == (1_000, "none")
    model.present[0] = 0
    assert levels(drift, store) == {}
    model.score(0, 7, 7, 0, 0)
    model.present[0] = 1
    assert levels(drift, store)["1.0.0", "x"] == (0, "untold")
    model.score(0, 30, 30, 0, 0)
    # Of other bins, too, and then of as many as these with other rows.
    Model(store, [0, 4_000, 3_000, 3_000, 0, 0])
    assert levels(drift, store)["1.0.0", "x"] == (0, "untold")
    Model(store, [0, 4_000, 1_000, 5_000, 0, 0]).score(0, 1, 0, 0, 0, 0)
    assert levels(drift, store)["1.0.0", "x"] == (0, "untold")
    # A new version beside it has a window of its own, from its first row on.
    Model(store, REFERENCE, "1.1.0").score(0, 10, 10, 0, 0)
    assert levels(drift, store)["1.1.0", "x"][0] == 20


def test_the_store_of_a_worker_that_was_killed_counts_on(clock: Clock) -> None:
    stores = [Store(), Store()]
    drift = Drift(WINDOW, clock)
    levels(drift, *stores)
    models = [Model(store, REFERENCE) for store in stores]
    for model in models:
        model.score(0, 50, 50, 0, 0)
    assert levels(drift, *stores)["1.0.0", "x"][0] == 200
    models[0].present[0] = 0
    models[1].score(0, 5, 5, 0, 0)
    clock.now = 20
    assert levels(drift, *stores)["1.0.0", "x"][0] == 210
    models[0].present[0] = 1
    models[0].score(0, 5, 5, 0, 0)
    clock.now = 40
    assert levels(drift, *stores)["1.0.0", "x"][0] == 220
