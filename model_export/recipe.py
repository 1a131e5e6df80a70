"""A recipe: all that `forest-export` must be told about one model."""

import importlib
import importlib.util
import pkgutil
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from model_bundle.encoding import Encoder, InvalidRow, Value
from model_bundle.manifest import SCORE, Feature, ManifestError, Missing, check_name
from model_export import recipes
from model_export.cell import Reader
from model_export.error import ExportError
from model_export.grid import MAX_TREES, is_power_of_two

Columns = Mapping[str, NDArray[Any]]
"""A table by column: for each name as many values as there are rows."""

Generator = Callable[[np.random.Generator, int], Columns]


class RecipeError(ExportError):
    """A recipe that is absent, or that asks for what cannot be exported."""


def number(
    name: str, description: str, *, missing: Missing = "reject", within: tuple[float, float] | None = None
) -> Feature:
    """Return a feature that is a number.

    Outside of ``within`` it is an error, in the data and in requests. Without that its range is the training
    rows' own, and a number outside of it is scored with a warning.
    """
    least, greatest = within or (None, None)
    return Feature(name, "number", missing, description, least, greatest, "reject" if within else "warn")


def category(name: str, description: str, *categories: str, missing: Missing = "reject") -> Feature:
    """Return a feature that is one of some texts. Trees split them by their order."""
    return Feature(name, "category", missing, description, categories=categories)


def flag(name: str, description: str, *, missing: Missing = "reject") -> Feature:
    """Return a feature that is true or false."""
    return Feature(name, "flag", missing, description)


@dataclass(frozen=True, slots=True)
class Label:
    """What a binary classification tells: which of two labels a row has.

    Parameters
    ----------
    columns
        The column that has it, by every name that it is published under. It holds 0 or 1, no or yes.
    names
        What 0 and 1 mean.
    """

    columns: tuple[str, ...]
    names: tuple[str, str]

    @property
    def column(self) -> str:
        """The column's first name."""
        return self.columns[0]


@dataclass(frozen=True, slots=True)
class Quantity:
    """What a regression tells: a number.

    Parameters
    ----------
    columns
        The column that has it, by every name that it is published under.
    unit
        What it is a number of, as ``bikes``.
    least
        What it can never be below, as 0 for a count. None if there is nothing.
    coverage
        The share of true values that the intervals are to hold.
    """

    columns: tuple[str, ...]
    unit: str
    least: float | None = None
    coverage: float = 0.9

    @property
    def column(self) -> str:
        """The column's first name."""
        return self.columns[0]


@dataclass(frozen=True, slots=True)
class Preparation:
    """How features are made of published columns, where they are not the same.

    Parameters
    ----------
    columns
        How each published column is read. The target's is not among them.
    prepare
        From those columns and the target, under its first name, to the features and the target. Rows may be
        left out, as those without a past.
    """

    columns: Mapping[str, Reader]
    prepare: Callable[[Columns], Columns]


@dataclass(frozen=True, slots=True)
class Recipe:
    """How to make one model.

    Parameters
    ----------
    name
        The model's.
    description
        One sentence for the manifest: what the probability or the value is of.
    purpose, limits
        What the model is for, and what it is not to be used for: the model card's, a paragraph each.
    features
        In order. A range that a feature has none of comes from the training rows.
    target
        A `Label` makes it a binary classification, a `Quantity` a regression.
    forest
        Parameters of `sklearn.ensemble.RandomForestClassifier` or `RandomForestRegressor`. ``n_estimators``
        is a power of two.
    generate
        Makes rows of the published columns: from a random generator and a number of rows to the columns.
    generated_rows
        How many of them make the built-in data.
    imputed
        What stands for a missing value of each feature whose rule is ``impute``, in training and in the
        graph.
    aliases
        The columns that some copies of the data name otherwise, each with the name that it has here.
    unused
        Columns that may be there and are no features: row numbers, and what is known only afterwards.
    split
        ``random``; or ``time``: the last fifth of the rows, which must be in the order of time, is for the
        test.
    preparation
        Makes the features, where they are not the published columns.
    at_stake
        Completes "a version of generated data must not decide about anybody's": the model card's.
    """

    name: str
    description: str
    purpose: str
    limits: str
    features: tuple[Feature, ...]
    target: Label | Quantity
    forest: Mapping[str, int | float | str | bool | None]
    generate: Generator
    generated_rows: int
    imputed: Mapping[str, Value] = field(default_factory=dict)
    aliases: Mapping[str, str] = field(default_factory=dict)
    unused: Sequence[str] = ()
    split: Literal["random", "time"] = "random"
    preparation: Preparation | None = None
    at_stake: str = "business"

    def __post_init__(self) -> None:
        try:
            check_name(self.name)
        except ManifestError as error:
            raise RecipeError(f"recipe {self.name!r}: {error}") from error
        trees = self.forest.get("n_estimators")
        if not isinstance(trees, int) or trees > MAX_TREES or not is_power_of_two(trees):
            raise self._error(
                f"n_estimators is {trees}, but must be a power of two up to {MAX_TREES}, "
                "or probabilities are not exact: docs/decisions/0001-exact-leaves.md"
            )
        if self.forest.get("bootstrap") is False:
            raise self._error("bootstrap is False, but rows out of bag are what the model is validated on")
        self._check_features()

    def _check_features(self) -> None:
        names = [feature.name for feature in self.features]
        if not names or len(set(names)) < len(names):
            raise self._error("features: none, or one that appears twice")
        if SCORE in names:
            raise self._error(
                f"a feature is called {SCORE!r}, as a model's own score is beside the features: "
                "call it otherwise, in the table too"
            )
        if own := [name for name in (*self.target.columns, *self.unused) if name in names]:
            raise self._error(f"{', '.join(own)}: the target, or unused, and so no feature")
        for feature in self.features:
            if (feature.type == "category") != bool(feature.categories):
                raise self._error(f"{feature.name}: categories belong to a feature of type category")
            if feature.out_of_range == "reject" and feature.minimum is None:
                raise self._error(f"{feature.name}: out_of_range is 'reject', but there is no range")
        rule = {feature.name for feature in self.features if feature.missing == "impute"}
        if odd := sorted(rule ^ self.imputed.keys()):
            raise self._error(f"{', '.join(odd)}: what is imputed, and missing='impute', go together")
        for feature in self.features:
            if feature.name in self.imputed:
                try:
                    Encoder((feature,)).encode_record({feature.name: self.imputed[feature.name]})
                except InvalidRow as error:
                    raise self._error(f"imputed: {error}") from error
                if self.imputed[feature.name] is None:
                    raise self._error(f"imputed: {feature.name}: a missing value cannot stand for one")

    def _error(self, problem: str) -> RecipeError:
        return RecipeError(f"recipe {self.name}: {problem}")


def names() -> list[str]:
    """Return the names of the models that there is a recipe for."""
    return sorted(module.name.replace("_", "-") for module in pkgutil.iter_modules(recipes.__path__))


def find(name: str) -> Recipe:
    """Return a recipe: a model's, or the one in a file ``….py``; each is the module's ``RECIPE``.

    Raises
    ------
    RecipeError
        If there is none, or if its file does not make one. The message names the file and the line.
    """
    if name.endswith(".py"):
        return _read(Path(name))
    if name not in names():
        raise RecipeError(
            f"no recipe for a model {name!r}: there is {', '.join(names())}; a file's name ends in .py"
        )
    recipe: Recipe = importlib.import_module(f"model_export.recipes.{name.replace('-', '_')}").RECIPE
    return recipe


def _read(path: Path) -> Recipe:
    """Return the recipe in a file."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None  # noqa: S101 - the name ends in .py
    assert spec.loader is not None  # noqa: S101
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except OSError as error:
        raise RecipeError(f"{path}: {error.strerror or error}") from error
    except RecipeError as error:
        raise RecipeError(f"{path}: {error}") from error
    except Exception as error:
        raise RecipeError(f"{path}{_line(error, str(path))}: {_said(error)}") from error
    recipe = getattr(module, "RECIPE", None)
    if not isinstance(recipe, Recipe):
        raise RecipeError(f"{path}: it has no RECIPE: docs/export.md shows a recipe")
    return recipe


@contextmanager
def blamed(recipe: Recipe, part: str, function: Callable[..., Any] | None = None) -> Iterator[None]:
    """Turn what goes wrong in a recipe's own code, or by its word, into a `RecipeError` in one line.

    Parameters
    ----------
    recipe
        Whose.
    part
        What of it.
    function
        Of the recipe: the line of its file is told.
    """
    try:
        yield
    except ExportError:
        raise
    except Exception as error:
        file = getattr(getattr(function, "__code__", None), "co_filename", "")
        place = f" ({Path(file).name}{_line(error, file)})" if file else ""
        raise RecipeError(f"recipe {recipe.name}: {part}{place}: {_said(error)}") from error


def _said(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0]


def _line(error: Exception, file: str) -> str:
    """Return ``:LINE``, the last line of a file that an error came through."""
    if isinstance(error, SyntaxError):
        return f":{error.lineno}"
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == file]
    return f":{lines[-1]}" if lines else ""
