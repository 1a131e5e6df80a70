"""A recipe: all that `forest-export` must be told about one model."""

import importlib
import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from model_bundle.manifest import Feature
from model_export import recipes
from model_export.error import ExportError
from model_export.grid import MAX_TREES, is_power_of_two

Generator = Callable[[np.random.Generator, int], tuple[NDArray[np.float64], NDArray[np.int8]]]


class RecipeError(ExportError):
    """A recipe that is absent, or that asks for what cannot be exported."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """How to make one model.

    Parameters
    ----------
    name
        The model's.
    description
        One sentence for the manifest: what the probability is of.
    purpose, limits
        What the model is for, and what it is not to be used for: the model card's, a paragraph each.
    features
        In order, without ranges: those come from the data.
    label_columns
        The label's column, by every name that it is published under.
    labels
        What 0 and 1 in that column mean.
    forest
        Parameters of `sklearn.ensemble.RandomForestClassifier`. ``n_estimators`` is a power of two.
    generate
        Makes rows of the same schema: from a random generator and a number of rows to a float64 matrix
        ``(rows, features)`` and labels of 0 and 1.
    generated_rows
        How many of them make the built-in data.
    """

    name: str
    description: str
    purpose: str
    limits: str
    features: tuple[Feature, ...]
    label_columns: tuple[str, ...]
    labels: tuple[str, str]
    forest: Mapping[str, int | float | str | bool | None]
    generate: Generator
    generated_rows: int

    def __post_init__(self) -> None:
        trees = self.forest.get("n_estimators")
        if not isinstance(trees, int) or trees > MAX_TREES or not is_power_of_two(trees):
            raise RecipeError(
                f"recipe {self.name}: n_estimators is {trees}, but must be a power of two up to {MAX_TREES}, "
                "or probabilities are not exact: docs/decisions/0001-exact-leaves.md"
            )
        if odd := [item.name for item in self.features if item.type != "number" or item.missing != "reject"]:
            raise RecipeError(f"recipe {self.name}: {', '.join(odd)}: only numbers that are never missing")


def names() -> list[str]:
    """Return the names of the models that there is a recipe for."""
    return sorted(module.name for module in pkgutil.iter_modules(recipes.__path__))


def find(name: str) -> Recipe:
    """Return a model's recipe: ``RECIPE`` of ``model_export.recipes.<name>``."""
    if name not in names():
        raise RecipeError(f"no recipe for a model {name!r}: there is {', '.join(names())}")
    recipe: Recipe = importlib.import_module(f"model_export.recipes.{name}").RECIPE
    return recipe
