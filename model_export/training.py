"""Trains a forest whose scores are exact."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model_bundle.encoding import Encoder
from model_export.grid import LEAF_STEP, leaf_step
from model_export.recipe import Label, Recipe, blamed
from model_export.split import Part

Forest = Any
"""A fitted `sklearn.ensemble.RandomForestClassifier` or ``…Regressor``; scikit-learn has no types."""


@dataclass(frozen=True, slots=True)
class Trained:
    """A trained model: what stands for missing values, and a forest.

    Attributes
    ----------
    forest : Forest
    imputed : ndarray of float32, shape (features,)
        The code that stands for a feature's missing value; NaN where none may be missing.
    step : float
        The distance of neighbouring leaf values.
    """

    forest: Forest
    imputed: NDArray[np.float32]
    step: float = LEAF_STEP

    @property
    def classifies(self) -> bool:
        """Whether scores are probabilities of label 1, rather than values."""
        return hasattr(self.forest, "predict_proba")

    def fill(self, rows: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return rows as the forest takes them: with something for each missing value."""
        return np.where(np.isnan(rows), self.imputed, rows)

    def scores(self, rows: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return the model's own probabilities of label 1, or its values.

        Parameters
        ----------
        rows : ndarray of float32, shape (rows, features)
            NaN for a missing value.
        """
        # scikit-learn looks for infinities by adding everything up, which overflows for the greatest numbers.
        with np.errstate(over="ignore", invalid="ignore"):
            filled = self.fill(rows)
            scores: NDArray[np.float64] = (
                self.forest.predict_proba(filled)[:, 1] if self.classifies else self.forest.predict(filled)
            )
        return scores


def train(recipe: Recipe, part: Part, seed: int) -> Trained:
    """Fit a recipe's forest and round its leaves, before anything is measured on it.

    The number of threads never changes the forest: each tree has its own seed. The out-of-bag scores are
    those of the leaves before rounding.
    """
    from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor  # noqa: PLC0415

    classifies = isinstance(recipe.target, Label)
    kind = RandomForestClassifier if classifies else RandomForestRegressor
    validated_out_of_bag = classifies or recipe.split == "random"
    imputed = _imputed(recipe)
    rows = np.where(np.isnan(part.rows), imputed, part.rows)
    with blamed(recipe, "forest"):
        forest = kind(**recipe.forest, oob_score=validated_out_of_bag, random_state=seed)
        forest.fit(rows, part.targets)
    return Trained(forest, imputed, round_leaves(forest))


def round_leaves(forest: Forest) -> float:
    """Round the probability or the value in each leaf to a multiple of a step, in place; return the step.

    The rounded forest is the trained model: every metric and test is of it. A leaf moves by half a step at
    most: a probability by 0.00012, a value by at most 0.00003 of the greatest one with 256 trees, and by less
    with fewer.
    """
    if hasattr(forest, "predict_proba"):
        for tree in forest.estimators_:
            value = tree.tree_.value
            positive = np.rint(value[:, 0, 1] / LEAF_STEP) * LEAF_STEP
            value[:, 0, 0], value[:, 0, 1] = 1 - positive, positive
        return LEAF_STEP
    greatest = max(float(np.abs(tree.tree_.value).max()) for tree in forest.estimators_)
    step = leaf_step(greatest, len(forest.estimators_))
    for tree in forest.estimators_:
        value = tree.tree_.value
        value[:] = np.rint(value / step) * step
    return step


def out_of_bag(trained: Trained, part: Part) -> tuple[Part, NDArray[np.float64]]:
    """Return the validation rows: those of the training part, each scored by the trees that never saw it.

    Every tree is fitted to a bootstrap sample, which leaves out about a third of the rows. Scores of rows
    left out are as good as those of a validation part, and no row is taken from training for them (Breiman,
    "Out-of-bag estimation", 1996). A row that occurs twice is not among them: a tree that did not see it may
    have seen its copy.

    Returns
    -------
    Part
        The rows and their targets.
    ndarray of float64, shape (rows,)
        Their probabilities of label 1, or their values.
    """
    _, group, copies = np.unique(part.rows, axis=0, return_inverse=True, return_counts=True)
    forest = trained.forest
    scores = forest.oob_decision_function_[:, 1] if trained.classifies else forest.oob_prediction_
    in_bag = np.zeros(len(scores), np.intp)
    for sample in forest.estimators_samples_:
        in_bag[np.unique(sample)] += 1
    usable = (copies[group.reshape(-1)] == 1) & (in_bag < len(forest.estimators_))
    return Part(part.rows[usable], part.targets[usable]), scores[usable]


def _imputed(recipe: Recipe) -> NDArray[np.float32]:
    """Return the codes of what the recipe imputes."""
    codes = np.full(len(recipe.features), np.nan, np.float32)
    for index, feature in enumerate(recipe.features):
        if feature.name in recipe.imputed:
            encoder = Encoder((feature,))
            encoder.encode_record({feature.name: recipe.imputed[feature.name]})
            codes[index] = encoder.row[0]
    return codes
