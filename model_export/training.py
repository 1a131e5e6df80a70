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

    The number of threads never changes the forest: each tree has its own seed. The out-of-bag scores are
    those of the leaves before rounding.
    """
    from sklearn.ensemble import RandomForestClassifier  # noqa: PLC0415

    forest = RandomForestClassifier(**recipe.forest, oob_score=True, random_state=seed).fit(
        part.rows, part.labels
    )
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


def out_of_bag(forest: Forest, part: Part) -> tuple[Part, NDArray[np.float64]]:
    """Return the validation rows: those of the training part, each scored by the trees that never saw it.

    Every tree is fitted to a bootstrap sample, which leaves out about a third of the rows. Scores of rows
    left out are as good as those of a validation part, and no row is taken from training for them (Breiman,
    "Out-of-bag estimation", 1996). A row that occurs twice is not among them: a tree that did not see it may
    have seen its copy.

    Returns
    -------
    Part
        The rows and their labels.
    ndarray of float64, shape (rows,)
        Their probabilities of label 1.
    """
    _, group, copies = np.unique(part.rows, axis=0, return_inverse=True, return_counts=True)
    scores = forest.oob_decision_function_[:, 1]
    usable = (copies[group.reshape(-1)] == 1) & ~np.isnan(scores)
    return Part(part.rows[usable], part.labels[usable]), scores[usable]


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
