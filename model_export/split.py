"""Which rows a model is trained on, and its metrics measured on."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model_export.error import ExportError
from model_export.recipe import Label, Recipe
from model_export.table import Table

FRACTIONS = {"train": 0.8, "test": 0.2}


class SplitError(ExportError):
    """Data with too few rows to be split."""


@dataclass(frozen=True, slots=True)
class Part:
    """Some of a table's rows, in the table's order."""

    rows: NDArray[np.float32]
    targets: NDArray[Any]

    @property
    def positives(self) -> int:
        """How many rows have label 1."""
        return int(np.count_nonzero(self.targets))


@dataclass(frozen=True, slots=True)
class Split:
    """A table in two parts that share no row."""

    train: Part
    test: Part

    def parts(self) -> dict[str, Part]:
        """Return the parts by name."""
        return {"train": self.train, "test": self.test}


def split(table: Table, recipe: Recipe, seed: int) -> Split:
    """Split a table by `FRACTIONS`: at random, or by time, as the recipe says.

    At random, labels are split each apart, and rows that are equal in every feature go to one part together:
    a copy of a training row would tell nothing in the test. A group of them counts as positive if any of it
    is.

    Raises
    ------
    SplitError
        If a part would get no row, or none of one of the labels.
    """
    if recipe.split == "time":
        part_of_row = (np.arange(len(table.targets)) >= FRACTIONS["train"] * len(table.targets)).astype(
            np.int8
        )
    else:
        part_of_row = _at_random(table, isinstance(recipe.target, Label), seed)
    masks = [part_of_row == index for index in range(len(FRACTIONS))]
    parts = [Part(table.rows[mask], table.targets[mask]) for mask in masks]
    for name, part in zip(FRACTIONS, parts, strict=True):
        if isinstance(recipe.target, Label) and not 0 < part.positives < part.targets.size:
            counts = np.bincount(table.targets, minlength=2)
            raise SplitError(
                f"{table.name}: too few rows to split: {counts[0]} with label 0 and {counts[1]} with label 1 "
                f"leave none of one of them for the {name} part"
            )
        if not part.targets.size:
            raise SplitError(f"{table.name}: too few rows to split: {len(table.targets)}")
    return Split(*parts)


def _at_random(table: Table, labelled: bool, seed: int) -> NDArray[np.int8]:
    """Return the index of each row's part."""
    _, groups = np.unique(table.rows, axis=0, return_inverse=True)
    groups = groups.reshape(-1)
    positive = np.zeros(groups.max() + 1, np.bool_)
    if labelled:
        positive[groups[table.targets == 1]] = True
    random = np.random.default_rng(seed)
    part_of_group = np.empty(positive.size, np.int8)
    for label in (False, True):
        members = random.permutation(np.flatnonzero(positive == label))
        bounds = np.rint(np.cumsum([*FRACTIONS.values()][:-1]) * members.size).astype(int)
        for index, chosen in enumerate(np.split(members, bounds)):
            part_of_group[chosen] = index
    return part_of_group[groups]
