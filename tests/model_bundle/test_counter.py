"""Counting rows: in blocks, alone or many at a time, and in a window that slides."""

import json

import numpy as np
import pytest

from model_bundle.counter import Counter, Window
from model_bundle.manifest import Feature
from model_bundle.reference import Reference, from_bytes

FEATURES = (
    Feature("amount", "number", "impute", minimum=-1.5, maximum=10),
    Feature("colour", "category", "impute", categories=("red", "green", "blue")),
    Feature("new", "flag", "reject"),
    Feature("bare", "number", "impute"),
)


def histogram(edges: list[float], counts: list[int], missing: int = 0) -> dict[str, object]:
    return {"rows": sum(counts) + missing, "missing": missing, "edges": edges, "counts": counts}


@pytest.fixture(scope="module")
def reference() -> Reference:
    document = {
        "schema_version": 1,
        "features": {
            "amount": histogram([0.0, 0.1, 5.0], [4, 4, 4, 4], 2),
            "colour": histogram([1, 2], [5, 5, 5]),
            "new": histogram([1], [5, 5]),
            "bare": histogram([], [3], 3),
        },
        "score": histogram([0.001, 0.5], [5, 5, 5]),
    }
    # As export writes them: the edges of a number are values that were seen, and these are float32.
    document["features"]["amount"]["edges"][1] = float(np.float32(0.1))  # type: ignore[index]
    return from_bytes(json.dumps(document).encode(), FEATURES)


def of(counter: Counter, rows: list[list[float]], scores: list[float]) -> list[list[int]]:
    counter.add_all(np.array(rows, np.float32), np.array(scores, np.float32))
    return [part.tolist() for part in counter.parts(counter.take())]


@pytest.mark.parametrize(
    ("value", "place"),
    [
        (-2, 0), (-1.5, 1), (-0.1, 1), (0, 2), (0.0999, 2), (0.1, 3), (4.99, 3), (5, 4), (10, 4),
        (np.nextafter(np.float32(10), np.float32(11)), 5), (3e38, 5), (np.nan, 6),
    ],
)  # fmt: skip
def test_a_number_is_in_the_bin_that_export_puts_it_in(reference: Reference, value: float, place: int):
    (amount, *_) = of(Counter(reference), [[value, 0, 0, 0]], [0])
    assert amount.index(1) == place
    assert sum(amount) == 1


@pytest.mark.parametrize(("code", "place"), [(0, 1), (1, 2), (2, 3), (3, 4), (np.nan, 5)])
def test_a_category_is_in_its_own_bin_and_an_unknown_one_in_another(
    reference: Reference, code: float, place: int
):
    (_, colour, *_) = of(Counter(reference), [[0, code, 0, 0]], [0])
    assert colour.index(1) == place


def test_a_flag_a_number_without_a_range_and_the_score(reference: Reference):
    rows = [[0, 0, 0, -3e38], [0, 0, 1, 3e38], [0, 0, np.nan, np.nan]]
    (_, _, new, bare, score) = of(Counter(reference), rows, [0.0005, 0.5, np.nan])
    assert new == [0, 1, 1, 0, 1]
    assert bare == [0, 2, 0, 1]
    assert score == [0, 1, 0, 1, 0, 1]


@pytest.mark.parametrize("block", [1, 7, 128])
def test_rows_one_by_one_are_counted_as_all_at_once(reference: Reference, block: int):
    random = np.random.default_rng(0)
    rows = random.normal(0, 5, (10_000, 4)).astype(np.float32)
    rows[:, 1], rows[:, 2] = random.integers(0, 4, 10_000), random.integers(0, 2, 10_000)
    rows[random.random(rows.shape) < 0.1] = np.nan
    scores = random.random(10_000).astype(np.float32)
    one_by_one, at_once = Counter(reference, block), Counter(reference)
    memory = np.empty(4, np.float32)
    for row, score in zip(rows[:300], scores[:300].tolist(), strict=True):
        # An encoder has one memory for all of its rows.
        memory[:] = row
        one_by_one.add(memory, score)
    at_once.add_all(rows[:300], scores[:300])
    counts = one_by_one.take()
    np.testing.assert_array_equal(counts, at_once.take())
    assert [part.sum() for part in one_by_one.parts(counts)] == [300] * 5
    # Asked again, nothing is there.
    assert not one_by_one.take().any()
    at_once.add_all(rows, scores)
    expected = sum(int((rows[:, 1] == code).sum()) for code in range(3))
    assert at_once.parts(at_once.take())[1][1:4].sum() == expected


def test_a_window_forgets_its_oldest_block():
    window = Window(3, 2)
    for number in range(1, 6):
        window.add(np.array([number, 1]))
        window.add(np.array([0, 1]))
        assert window.counts.tolist() == [sum(range(max(number - 2, 1), number + 1)), 2 * min(number, 3)]
        window.turn()
    for _ in range(3):
        window.turn()
    assert window.counts.tolist() == [0, 0]
