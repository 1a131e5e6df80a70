from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from model_bundle.manifest import Feature
from model_export import recipe
from model_export.__main__ import main
from model_export.recipe import RecipeError, category, number
from model_export.recipes.fraud import RECIPE


@pytest.mark.parametrize("trees", [0, -2, 3, 100, 300, 512, None, "64"])
def test_refuses_a_number_of_trees_that_makes_probabilities_inexact(trees: object):
    with pytest.raises(RecipeError, match="power of two up to 256"):
        replace(RECIPE, forest={**RECIPE.forest, "n_estimators": trees})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"features": (category("Colour", ""),)}, "Colour: categories belong to a feature of type category"),
        ({"features": (Feature("Age", "number", "reject", categories=("a",)),)}, "Age: categories belong"),
        (
            {"features": (Feature("Age", "number", "reject", out_of_range="reject"),)},
            "Age: out_of_range is 'reject', but there is no range",
        ),
        ({"features": ()}, "features: none, or one that appears twice"),
        ({"features": (number("Age", ""), number("Age", ""))}, "features: none, or one that appears twice"),
        (
            {"features": (number("Age", ""), number("score", ""))},
            "a feature is called 'score', as a model's own",
        ),
        ({"features": (number("Class", ""),)}, "Class: the target, or unused, and so no feature"),
        ({"features": (number("Age", ""),), "unused": ("Age",)}, "Age: the target, or unused"),
        ({"features": (number("Age", "", missing="impute"),)}, "Age: what is imputed, and missing='impute'"),
        ({"features": (number("Age", ""),), "imputed": {"Age": 1.0}}, "Age: what is imputed, and missing="),
        (
            {"features": (category("Colour", "", "red", missing="impute"),), "imputed": {"Colour": "blue"}},
            "imputed: Colour: 'blue' is none of 'red'",
        ),
        (
            {"features": (number("Age", "", missing="impute"),), "imputed": {"Age": None}},
            "imputed: Age: a missing value cannot stand for one",
        ),
        ({"name": "Fraud!"}, "model name 'Fraud!' is not lower-case"),
        ({"forest": {"n_estimators": 4, "bootstrap": False}}, "bootstrap is False"),
    ],
)
def test_refuses_what_cannot_be_exported(changes: dict, message: str):
    with pytest.raises(RecipeError) as caught:
        replace(RECIPE, **changes)
    assert message in str(caught.value)


def test_finds_recipes_by_name():
    assert recipe.find("fraud") is RECIPE
    assert {"fraud", "credit", "churn", "demand", "demand-day"} <= set(recipe.names())
    with pytest.raises(RecipeError, match=r"no recipe for a model 'frauds': there is .*fraud"):
        recipe.find("frauds")


def test_each_recipe_is_of_its_name():
    for name in recipe.names():
        assert recipe.find(name).name == name


def test_finds_a_recipe_in_a_file(tmp_path: Path):
    file = tmp_path / "mine.py"
    file.write_text(
        "from dataclasses import replace\n"
        "from model_export.recipes.fraud import RECIPE\n"
        "RECIPE = replace(RECIPE, name='mine')\n"
    )
    assert recipe.find(str(file)).name == "mine"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "mine.py: No such file or directory"),
        ("RECIPES = 3\n", "mine.py: it has no RECIPE: docs/export.md shows a recipe"),
        ("RECIPE = 3\n", "mine.py: it has no RECIPE"),
        ("x = 1\nRECIPE = = 3\n", "mine.py:2: SyntaxError: invalid syntax"),
        ("\nimport no_such_module\n", "mine.py:2: ModuleNotFoundError: No module named 'no_such_module'"),
        ("def f():\n    return 1 / 0\n\nf()\n", "mine.py:2: ZeroDivisionError"),
        (
            "from dataclasses import replace\n"
            "from model_export.recipes.fraud import RECIPE\n"
            "RECIPE = replace(RECIPE, name='mine', forest={'n_estimators': 100})\n",
            "mine.py: recipe mine: n_estimators is 100, but must be a power of two",
        ),
    ],
)
def test_refuses_a_file_that_makes_no_recipe(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str | None, message: str
):
    file = tmp_path / "mine.py"
    if content is not None:
        file.write_text(content)
    assert main([str(file), "--out", str(tmp_path / "models")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"forest-export: {tmp_path}/{message}")


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
