from dataclasses import replace

import numpy as np
import pytest

from model_bundle.manifest import Feature
from model_export import recipe
from model_export.recipe import RecipeError
from model_export.recipes.fraud import RECIPE


@pytest.mark.parametrize("trees", [0, -2, 3, 100, 300, 512, None, "64"])
def test_refuses_a_number_of_trees_that_makes_probabilities_inexact(trees: object):
    with pytest.raises(RecipeError, match="power of two up to 256"):
        replace(RECIPE, forest={**RECIPE.forest, "n_estimators": trees})


def test_refuses_a_feature_that_it_could_not_encode():
    with pytest.raises(RecipeError, match="Colour"):
        replace(RECIPE, features=(Feature("Colour", "category", "reject", categories=("red",)),))


def test_finds_recipes_by_name():
    assert recipe.find("fraud") is RECIPE
    with pytest.raises(RecipeError, match=r"no recipe for a model 'frauds': there is .*fraud"):
        recipe.find("frauds")


def test_each_recipe_is_of_its_name():
    for name in recipe.names():
        assert recipe.find(name).name == name


def test_the_fraud_recipe_has_the_published_columns():
    names = [feature.name for feature in RECIPE.features]
    assert names == ["Time", *(f"V{index}" for index in range(1, 29)), "Amount"]


def test_generated_payments_look_like_payments():
    columns = RECIPE.generate(np.random.default_rng(3), 20_000)
    assert list(columns) == [*(feature.name for feature in RECIPE.features), "Class"]
    assert all(column.shape == (20_000,) and np.isfinite(column).all() for column in columns.values())
    assert 0.014 < columns["Class"].mean() < 0.020
    time, amount = columns["Time"], columns["Amount"]
    assert 0 <= time.min() <= time.max() < 172_800
    assert (np.diff(time) >= 0).all()
    assert 0 <= amount.min() <= amount.max() <= 25_000
