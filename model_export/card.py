"""The model card: one HTML page for whoever must approve a model. It needs no other file, and no script."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model_bundle.decision import Decision, Estimate
from model_bundle.manifest import Interval, Manifest
from model_export import calibration, fit, metrics, page, plots
from model_export.parity import Proof
from model_export.recipe import Recipe
from model_export.split import Split
from model_export.tally import Tally

METRICS = {
    "f1": "F1",
    "precision": "Precision",
    "recall": "Recall",
    "pr_auc": "PR-AUC",
    "roc_auc": "ROC-AUC",
    "brier": "Brier score",
    "r2": "R²",
    "mae": "MAE",
    "rmse": "RMSE",
    "coverage": "Coverage",
    "width": "Mean width",
}
_MEANINGS = {
    "f1": "Harmonic mean of precision and recall, at the threshold.",
    "precision": "Of the rows called positive, the share that are.",
    "recall": "Of the positive rows, the share that are called so.",
    "pr_auc": "Average precision over all recalls. Chance gives the share of positive rows.",
    "roc_auc": "The chance that a positive row scores above a negative one.",
    "brier": "Mean squared distance of probability and label. Less is better.",
    "r2": "The share of the true values' variance that the forest explains.",
    "mae": "Mean distance of the forest's value and the true one. Less is better.",
    "rmse": "Root of the mean squared distance. Less is better; great errors weigh more.",
    "coverage": "The share of true values that their interval holds.",
    "width": "How wide the intervals are in the mean. Less is better, at the same coverage.",
}
_FORMATS = {"brier": "%.4f", "mae": "%.2f", "rmse": "%.2f", "width": "%.1f"}
_SPLITTING = {
    (
        "random",
        True,
    ): "Drawn at random for each label apart. Rows that are equal in every feature are in one part together.",
    ("random", False): "Drawn at random. Rows that are equal in every feature are in one part together.",
    ("time", True): "By time: the test part is later than every row of the training part.",
    ("time", False): "By time: the test part is later than every row of the training part.",
}
_RESAMPLING = {
    "random": "drawn row by row",
    "time": "drawn in blocks of rows that follow each other, as by time neighbours are alike",
}
_TRIALS = {
    "split": "On the value of each split of each tree, and one ulp below and above it",
    "extreme": "Each feature in turn at zero, at the tiniest and at the greatest numbers",
    "uniform": "All features at such a number",
    "threshold": "Rows of the test part nearest to the threshold, on either side",
    "cut": "Rows of the test part nearest to each cut between two bands of values, on either side",
    "missing": "With each feature missing that may be, and with all of them",
    "test": "The whole test part",
}


def render(
    recipe: Recipe,
    manifest: Manifest,
    parts: Split,
    *,
    validated: Tally | None,
    test_scores: NDArray[np.float64],
    importances: NDArray[np.float64],
    proofs: Sequence[Proof],
) -> bytes:
    """Return the page.

    Parameters
    ----------
    recipe
        Of the model.
    manifest
        All but its ``files``.
    parts
        The data.
    validated
        The out-of-bag scores that the threshold was chosen on; None for a regression.
    test_scores : ndarray of float64, shape (rows,)
        The trained model's probabilities, or values, for the rows of the test part.
    importances : ndarray of float64, shape (features,)
        The mean decrease in impurity by each feature.
    proofs
        What the parity gate has compared.
    """
    names = [feature.name for feature in manifest.features]
    with plots.drawing():
        task = (
            _regression(recipe, manifest, parts, test_scores)
            if validated is None
            else _classification(manifest, parts, validated, test_scores)
        )
        task["plots"]["importances"] = plots.importances(names, importances)
    images = {name: page.embedded(svg) for name, svg in task.pop("plots").items()}
    card = page.template(Path(__file__).with_name("card.html")).render(
        recipe=recipe,
        manifest=manifest,
        classifies=validated is not None,
        parts=parts.parts(),
        splitting=_SPLITTING[recipe.split, validated is not None],
        metric_names=METRICS,
        metric_meanings=_MEANINGS,
        metric_formats={name: _FORMATS.get(name, "%.3f") for name in METRICS},
        resamples=metrics.RESAMPLES,
        proofs=proofs,
        trials=_TRIALS,
        importances=dict(zip(names, importances, strict=True)),
        plots=images,
        **task,
    )
    return (card + "\n").encode()


def _classification(
    manifest: Manifest, parts: Split, validated: Tally, test_scores: NDArray[np.float64]
) -> dict[str, Any]:
    """Return what the page tells of a classification, its plots as SVG."""
    tested = Tally.of(test_scores, parts.test.targets)
    bins = calibration.bins(test_scores, parts.test.targets)
    threshold = manifest.threshold
    return {
        "resampling": "drawn from each label apart",
        "confusion": _confusion(tested, threshold),
        "levels": _levels(manifest, test_scores, parts.test.targets),
        "bins": bins,
        "plots": {
            "precision_recall": plots.precision_recall(tested, threshold),
            "receiver_operating": plots.receiver_operating(tested, threshold),
            "threshold_choice": plots.threshold_choice(validated, threshold),
            "scores": plots.scores(tested, threshold, manifest.labels),
            "reliability": plots.reliability(bins),
        },
    }


def _regression(
    recipe: Recipe, manifest: Manifest, parts: Split, values: NDArray[np.float64]
) -> dict[str, Any]:
    """Return what the page tells of a regression, its plots as SVG."""
    interval = manifest.interval
    assert interval is not None  # noqa: S101 - a regression has one
    true = parts.test.targets
    low, high = fit.intervals(values, Estimate(interval))
    return {
        "resampling": _RESAMPLING[recipe.split],
        "coverage": manifest.metrics["coverage"].value,
        "bands": _bands(interval, values, (low <= true) & (true <= high)),
        "plots": {
            "agreement": plots.agreement(values, true, low, high),
            "residuals": plots.residuals(true - values, interval.coverage),
        },
    }


def _bands(
    interval: Interval, values: NDArray[np.float64], held: NDArray[np.bool_]
) -> list[Mapping[str, str | float | int]]:
    """Return each band of values with its rows of the test part."""
    band = np.searchsorted(interval.cuts, values, side="right")
    ends = [f"{cut:.5g}" for cut in interval.cuts]
    names = [f"from {low}, below {high}" for low, high in pairwise(ends)]
    names = [f"below {ends[0]}", *names, f"from {ends[-1]}"] if ends else ["any"]
    return [
        {
            "name": name,
            "below": interval.below[index],
            "above": interval.above[index],
            "rows": int((band == index).sum()),
            "held": int(held[band == index].sum()),
        }
        for index, name in enumerate(names)
    ]


def _confusion(tally: Tally, threshold: float) -> dict[str, int]:
    called = tally.scores >= threshold
    return {
        "true_positive": int(tally.positives[called].sum()),
        "false_positive": int(tally.negatives[called].sum()),
        "false_negative": int(tally.positives[~called].sum()),
        "true_negative": int(tally.negatives[~called].sum()),
    }


def _levels(
    manifest: Manifest, scores: NDArray[np.float64], labels: NDArray[np.int8]
) -> list[dict[str, str | float | int]]:
    """Return each level of risk with its rows of the test part."""
    decision = Decision(manifest)
    found = np.array([decision.risk_level(score) for score in scores.tolist()])
    return [
        {
            "name": level.name,
            "minimum": level.minimum,
            "rows": int((found == level.name).sum()),
            "positives": int(labels[found == level.name].sum()),
        }
        for level in manifest.risk_levels
    ]
