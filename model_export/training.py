"""Trains a forest whose probabilities are exact."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from model_export.grid import LEAF_STEP
from model_export.recipe import Recipe
from model_export.split import Part

Forest = Any
"""A fitted `sklearn.ensemble.RandomForestClassifier`; scikit-learn has no types."""


def train(recipe: Recipe, part: Part, seed: int) -> Forest:
    """Fit a recipe's forest and round its leaves, before anything is measured on it.

    The number of threads never changes the forest: each tree has its own seed.
    """
    from sklearn.ensemble import RandomForestClassifier  # noqa: PLC0415

    forest = RandomForestClassifier(**recipe.forest, random_state=seed).fit(part.rows, part.labels)
    round_leaves(forest)
    return forest


def round_leaves(forest: Forest) -> None:
    """Round the probability in each leaf to a multiple of `LEAF_STEP`, in place.

    The rounded forest is the trained model: every metric and test is of it. A leaf moves by 0.00012 at most.
    """
    for tree in forest.estimators_:
        value = tree.tree_.value
        positive = np.rint(value[:, 0, 1] / LEAF_STEP) * LEAF_STEP
        value[:, 0, 0], value[:, 0, 1] = 1 - positive, positive


def probabilities(forest: Forest, rows: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the trained forest's own probabilities of label 1.

    Parameters
    ----------
    rows : ndarray of float32, shape (rows, features)
    """
    # scikit-learn looks for infinities by adding everything up, which overflows for the greatest numbers.
    with np.errstate(over="ignore", invalid="ignore"):
        scores: NDArray[np.float64] = forest.predict_proba(rows)[:, 1]
    return scores
