import numpy as np
import pytest

from model_export.recipes.fraud import RECIPE
from model_export.split import SplitError, split
from model_export.table import Table


def table(rows: np.ndarray, labels: np.ndarray) -> Table:
    return Table("some.csv", "", rows.astype(np.float32), labels.astype(np.int8))


@pytest.fixture
def repeated() -> Table:
    random = np.random.default_rng(1)
    distinct = random.normal(size=(700, 3))
    chosen = random.integers(0, 700, 2_000)
    return table(distinct[chosen], chosen % 10 == 0)


def test_copies_of_a_row_stay_together(repeated: Table):
    parts = split(repeated, RECIPE, 0).parts()
    sets = [{row.tobytes() for row in part.rows} for part in parts.values()]
    assert not sets[0] & sets[1]
    assert sum(len(part.rows) for part in parts.values()) == 2_000


def test_parts_have_their_share_of_each_label():
    labels = np.arange(1_000) % 50 == 0
    parts = split(table(np.arange(1_000)[:, None], labels), RECIPE, 3)
    assert [part.positives for part in parts.parts().values()] == [16, 4]
    assert [len(part.targets) for part in parts.parts().values()] == [800, 200]


def test_the_seed_alone_decides(repeated: Table):
    one, same, other = split(repeated, RECIPE, 5), split(repeated, RECIPE, 5), split(repeated, RECIPE, 6)
    assert np.array_equal(one.test.rows, same.test.rows)
    assert not np.array_equal(one.test.rows[:50], other.test.rows[:50])


@pytest.mark.parametrize("positives", [1, 2])
def test_refuses_too_few_rows(positives: int):
    labels = np.arange(100) < positives
    with pytest.raises(SplitError, match=r"some.csv: too few rows to split: 9\d with label 0 and"):
        split(table(np.arange(100)[:, None], labels), RECIPE, 0)


def test_refuses_one_row_repeated():
    with pytest.raises(SplitError):
        split(table(np.zeros((100, 1)), np.arange(100) % 2), RECIPE, 0)
