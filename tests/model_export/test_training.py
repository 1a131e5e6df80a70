import numpy as np
import pytest

from model_export.grid import LEAF_STEP
from model_export.recipe import Recipe
from model_export.split import Part
from model_export.training import Trained, out_of_bag, round_leaves, train


@pytest.fixture(scope="module")
def part() -> Part:
    random = np.random.default_rng(2)
    rows = random.normal(size=(500, 30)).astype(np.float32)
    rows[400:] = rows[:100]
    return Part(rows, (rows[:, 0] + random.normal(size=500) > 1).astype(np.int8))


@pytest.fixture(scope="module")
def trained(small_recipe: Recipe, part: Part) -> Trained:
    return train(small_recipe, part, 5)


def test_each_row_out_of_bag_is_scored_by_the_trees_that_never_saw_it(trained: Trained, part: Part):
    validation, scores = out_of_bag(trained, part)
    row_of = {row.tobytes(): index for index, row in enumerate(part.rows)}
    assert len(scores) == len(validation.targets) > 250
    for index in range(0, len(scores), 10):
        row = row_of[validation.rows[index].tobytes()]
        unseen = [
            tree.predict_proba(validation.rows[index : index + 1])[0, 1]
            for tree, sample in zip(
                trained.forest.estimators_, trained.forest.estimators_samples_, strict=True
            )
            if row not in sample
        ]
        # Those scores are of the leaves before rounding.
        assert scores[index] == pytest.approx(np.mean(unseen), abs=LEAF_STEP / 2)
        assert validation.targets[index] == part.targets[row]


def test_rows_that_occur_twice_are_not_validated_on(trained: Trained, part: Part):
    validation, _ = out_of_bag(trained, part)
    copies = {row.tobytes() for row in part.rows[400:]}
    assert not copies & {row.tobytes() for row in validation.rows}
    assert len(validation.rows) == 300


def test_rounding_moves_a_leaf_by_half_a_step_at_most_and_only_once(small_recipe: Recipe, part: Part):
    from sklearn.ensemble import RandomForestClassifier

    forest = RandomForestClassifier(8, min_samples_leaf=7, random_state=0).fit(part.rows, part.targets)
    before = [tree.tree_.value.copy() for tree in forest.estimators_]
    round_leaves(forest)
    moved = [
        np.abs(tree.tree_.value - value).max() for tree, value in zip(forest.estimators_, before, strict=True)
    ]
    assert 0 < max(moved) <= LEAF_STEP / 2
    scores = forest.predict_proba(part.rows)
    round_leaves(forest)
    assert np.array_equal(forest.predict_proba(part.rows), scores)


def test_the_greatest_numbers_are_scored_without_a_warning(
    trained: Trained, recwarn: pytest.WarningsRecorder
):
    assert trained.scores(np.full((2, 30), np.finfo(np.float32).max, np.float32)).shape == (2,)
    assert not recwarn
