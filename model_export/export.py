"""From data to a bundle: the whole way, top to bottom."""

import importlib.metadata
import json
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from model_bundle import bundle, golden, runtime
from model_bundle.decision import Decision
from model_bundle.encoding import Encoder
from model_bundle.manifest import Feature, Lineage, Manifest
from model_bundle.session import Session
from model_export import (
    card,
    conversion,
    golden_rows,
    metrics,
    parity,
    reference,
    risk,
    table,
    threshold,
    training,
    trials,
    writing,
)
from model_export.grid import LEAF_STEP
from model_export.recipe import Recipe
from model_export.split import FRACTIONS, Part, split
from model_export.table import Table
from model_export.tally import Tally
from model_export.trials import Trial

_LIBRARIES = ("numpy", "onnx", "scikit-learn", "skl2onnx")
_NEAREST = 500
_NEAREST_FOR_GOLDEN = 40
_TREES_FOR_GOLDEN = 16


@dataclass(frozen=True, slots=True)
class Exported:
    """A bundle that was written."""

    folder: Path
    digest: str
    manifest: Manifest


def export(
    recipe: Recipe, data: Path | None, *, models: Path, version: str, seed: int, say: Callable[[str], None]
) -> Exported:
    """Train a model, prove its graph equal to it, and write its bundle.

    Parameters
    ----------
    recipe
        Of the model.
    data
        A CSV file; None for the recipe's built-in data.
    models
        The folder of all models.
    version
        ``X.Y.Z``, which the model must not have yet.
    seed
        Of everything that is random.
    say
        Told what is done, a line at a time.

    Raises
    ------
    ExportError
        If anything is not as it must be. Then no bundle is there.
    """
    writing.refuse_existing(models, recipe.name, version)

    source = table.read(data, recipe) if data else table.generate(recipe, seed)
    say(f"{source.name}: {len(source.labels)} rows, {np.count_nonzero(source.labels)} {recipe.labels[1]}")
    parts = split(source, seed)

    forest = training.train(recipe, parts.train, seed)
    say(f"trained {len(forest.estimators_)} trees on {len(parts.train.labels)} rows")
    validation, validation_scores = training.out_of_bag(forest, parts.train)
    chosen = threshold.choose(validation_scores, validation.labels)
    say(f"chose threshold {chosen:.7f} on {len(validation.labels)} rows, each out of bag")
    test_scores = training.probabilities(forest, parts.test.rows)
    measured = metrics.measure(test_scores, parts.test.labels, chosen, seed)

    manifest = Manifest(
        model=recipe.name,
        version=version,
        task="binary_classification",
        description=recipe.description,
        features=_ranged(recipe.features, parts.train),
        labels=recipe.labels,
        threshold=chosen,
        risk_levels=risk.levels(chosen),
        graph=conversion.NAMES,
        metrics=measured,
        lineage=_lineage(recipe, source, seed),
        files={},
    )

    graph = conversion.convert(forest, recipe.name)
    say(f"converted to ONNX, {len(graph)} bytes")
    encoder = Encoder(manifest.features)
    decision = Decision(manifest)
    made = _trials(parts.test, test_scores, decision, _NEAREST)
    with closing(Session(graph, manifest.graph, encoder.row)) as session:
        all_splits = trials.on_splits(forest.estimators_, parts.train.rows)
        unseen = Trial("test", parts.test.rows)
        proofs = parity.prove(
            forest,
            parts.train.rows,
            session=session,
            encoder=encoder,
            decision=decision,
            trials=chain(all_splits, [*made, unseen]),
        )
    say(f"ONNX Runtime equals the trained forest on {sum(proof.rows for proof in proofs)} rows")

    some_splits = trials.joined(trials.on_splits(forest.estimators_[:_TREES_FOR_GOLDEN], parts.train.rows))
    ordinary = [Trial("ordinary", parts.test.rows[parts.test.labels == label]) for label in (0, 1)]
    for_golden = _trials(parts.test, test_scores, decision, _NEAREST_FOR_GOLDEN)
    names = [feature.name for feature in manifest.features]
    golden_chosen = golden_rows.choose(forest, decision, names, [*ordinary, *for_golden, some_splits], seed)
    files = {
        bundle.GRAPH: graph,
        bundle.GOLDEN: golden.to_bytes(golden_chosen),
        bundle.REFERENCE: reference.to_bytes(manifest.features, parts.train, test_scores),
        bundle.MODEL_CARD: card.render(
            recipe,
            manifest,
            parts,
            validated=Tally.of(validation_scores, validation.labels),
            test_scores=test_scores,
            importances=forest.feature_importances_,
            proofs=proofs,
        ),
    }
    folder, digest = writing.write(models, manifest, files)
    return Exported(folder, digest, manifest)


def _trials(test: Part, scores: NDArray[np.float64], decision: Decision, nearest: int) -> list[Trial]:
    """Return the trials that both the gate and the golden rows use, but for those on splits."""
    return [
        trials.beyond_data(trials.nearest(test.rows, scores, decision.threshold, 1)),
        trials.uniform(test.rows.shape[1]),
        Trial("threshold", trials.nearest(test.rows, scores, decision.threshold, nearest)),
    ]


def _ranged(features: tuple[Feature, ...], train: Part) -> tuple[Feature, ...]:
    """Return the features with the ranges of the training rows."""
    return tuple(
        replace(feature, minimum=float(column.min()), maximum=float(column.max()))
        for feature, column in zip(features, train.rows.T, strict=True)
    )


def _lineage(recipe: Recipe, source: Table, seed: int) -> Lineage:
    libraries = {name: importlib.metadata.version(name) for name in _LIBRARIES}
    parameters = {**recipe.forest, "leaf_step": LEAF_STEP, "split": FRACTIONS}
    return Lineage(
        recipe=recipe.name,
        data=source.name,
        data_digest=source.digest,
        rows=len(source.labels),
        seed=seed,
        libraries={**libraries, "onnxruntime": runtime.load().version},
        parameters={
            name: value if isinstance(value, str) else json.dumps(value)
            for name, value in sorted(parameters.items())
        },
    )
