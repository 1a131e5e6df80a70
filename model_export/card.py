"""The model card: one HTML page for whoever must approve a model. It needs no other file, and no script."""

import base64
from collections.abc import Sequence
from pathlib import Path

import jinja2
import numpy as np
from numpy.typing import NDArray

from model_bundle.decision import Decision
from model_bundle.manifest import Manifest
from model_export import calibration, metrics, plots
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
}
_MEANINGS = {
    "f1": "Harmonic mean of precision and recall, at the threshold.",
    "precision": "Of the rows called positive, the share that are.",
    "recall": "Of the positive rows, the share that are called so.",
    "pr_auc": "Average precision over all recalls. Chance gives the share of positive rows.",
    "roc_auc": "The chance that a positive row scores above a negative one.",
    "brier": "Mean squared distance of probability and label. Less is better.",
}
_TRIALS = {
    "split": "On the value of each split of each tree, and one ulp below and above it",
    "extreme": "Each feature in turn at zero, at the tiniest and at the greatest numbers",
    "uniform": "All features at such a number",
    "threshold": "Rows of the test part nearest to the threshold, on either side",
    "test": "The whole test part",
}


def render(
    recipe: Recipe,
    manifest: Manifest,
    parts: Split,
    *,
    validated: Tally,
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
        The out-of-bag scores that the threshold was chosen on.
    test_scores : ndarray of float64, shape (rows,)
        The trained forest's probabilities for the rows of the test part.
    importances : ndarray of float64, shape (features,)
        The mean decrease in impurity by each feature.
    proofs
        What the parity gate has compared.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    tested = Tally.of(test_scores, parts.test.labels)
    bins = calibration.bins(test_scores, parts.test.labels)
    page = environment.get_template("card.html").render(
        recipe=recipe,
        manifest=manifest,
        parts=parts.parts(),
        metric_names=METRICS,
        metric_meanings=_MEANINGS,
        resamples=metrics.RESAMPLES,
        confusion=_confusion(tested, manifest.threshold),
        levels=_levels(manifest, test_scores, parts.test.labels),
        bins=bins,
        proofs=proofs,
        trials=_TRIALS,
        importances=dict(zip([feature.name for feature in manifest.features], importances, strict=True)),
        plots=_plots(manifest, tested, validated, importances, bins),
    )
    return (page + "\n").encode()


def _plots(
    manifest: Manifest,
    tested: Tally,
    validated: Tally,
    importances: NDArray[np.float64],
    bins: list[calibration.Bin],
) -> dict[str, str]:
    """Return each plot as the address of an image that holds it."""
    threshold = manifest.threshold
    with plots.drawing():
        images = {
            "precision_recall": plots.precision_recall(tested, threshold),
            "receiver_operating": plots.receiver_operating(tested, threshold),
            "threshold_choice": plots.threshold_choice(validated, threshold),
            "scores": plots.scores(tested, threshold, manifest.labels),
            "reliability": plots.reliability(bins),
            "importances": plots.importances([feature.name for feature in manifest.features], importances),
        }
    return {
        name: "data:image/svg+xml;base64," + base64.b64encode(svg).decode() for name, svg in images.items()
    }


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
