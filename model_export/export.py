"""From data to a bundle: the whole way, top to bottom."""

import importlib.metadata
import json
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model_bundle import bundle, decision, golden, runtime
from model_bundle.decision import Decision, Estimate
from model_bundle.encoding import Encoder
from model_bundle.manifest import Feature, Interval, Lineage, Manifest, Metric, RiskLevel
from model_bundle.reference import REFERENCE
from model_bundle.session import Session
from model_export import (
    card,
    conversion,
    fit,
    golden_rows,
    interval,
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
from model_export.recipe import Label, Recipe
from model_export.split import FRACTIONS, Part, Split, split
from model_export.table import Table
from model_export.tally import Tally
from model_export.training import Trained
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
    say(f"{source.name}: {_contents(source, recipe)}")
    parts = split(source, recipe, seed)

    trained = training.train(recipe, parts.train, seed)
    say(f"trained {len(trained.forest.estimators_)} trees on {len(parts.train.targets)} rows")
    test_scores = trained.scores(parts.test.rows)
    judge = _classify if isinstance(recipe.target, Label) else _estimate
    judged = judge(recipe, trained, parts, test_scores, seed=seed, say=say)

    manifest = Manifest(
        model=recipe.name,
        version=version,
        task="binary_classification" if judged.interval is None else "regression",
        description=recipe.description,
        features=_ranged(recipe.features, parts.train),
        labels=judged.labels,
        threshold=judged.threshold,
        risk_levels=judged.risk_levels,
        graph=conversion.names(trained),
        metrics=judged.metrics,
        lineage=_lineage(recipe, source, trained, seed),
        files={},
        interval=judged.interval,
    )

    graph = conversion.convert(trained, recipe.name)
    say(f"converted to ONNX, {len(graph)} bytes")
    encoder = Encoder(manifest.features)
    decided = decision.of(manifest)
    filled = trained.fill(parts.train.rows)
    trees = trained.forest.estimators_
    made = _trials(manifest.features, parts.test, test_scores, decided, _NEAREST)
    lacking = _lacking(manifest.features, parts)
    with closing(Session(graph, manifest.graph, encoder.row)) as session:
        all_splits = trials.on_splits(trees, filled, manifest.features)
        unseen = Trial("test", parts.test.rows)
        proofs = parity.prove(
            trained,
            parts.train.rows,
            session=session,
            encoder=encoder,
            decision=decided,
            trials=chain(all_splits, [*made, *lacking, unseen]),
        )
    say(f"ONNX Runtime equals the trained forest on {sum(proof.rows for proof in proofs)} rows")

    some_splits = trials.joined(trials.on_splits(trees[:_TREES_FOR_GOLDEN], filled, manifest.features))
    ordinary = [Trial("ordinary", rows) for rows in _of_each_label(recipe, parts.test)]
    for_golden = _trials(manifest.features, parts.test, test_scores, decided, _NEAREST_FOR_GOLDEN)
    golden_chosen = golden_rows.choose(
        trained, decided, encoder, [*ordinary, *for_golden, some_splits, *lacking], seed
    )
    files = {
        bundle.GRAPH: graph,
        bundle.GOLDEN: golden.to_bytes(golden_chosen),
        REFERENCE: reference.to_bytes(manifest.features, parts.train, test_scores, trained.classifies),
        bundle.MODEL_CARD: card.render(
            recipe,
            manifest,
            parts,
            validated=judged.validated,
            test_scores=test_scores,
            importances=trained.forest.feature_importances_,
            proofs=proofs,
        ),
    }
    folder, digest = writing.write(models, manifest, files)
    return Exported(folder, digest, manifest)


@dataclass(frozen=True, slots=True)
class _Judged:
    """What a model's scores come to: the manifest's part of the task, and the scores it was chosen on."""

    metrics: dict[str, Metric]
    labels: tuple[str, ...] = ()
    threshold: float = 0.0
    risk_levels: tuple[RiskLevel, ...] = ()
    interval: Interval | None = None
    validated: Tally | None = None


def _classify(
    recipe: Recipe,
    trained: Trained,
    parts: Split,
    test_scores: NDArray[np.float64],
    *,
    seed: int,
    say: Callable[[str], None],
) -> _Judged:
    """Choose a threshold on rows out of bag, and measure on the test part."""
    assert isinstance(recipe.target, Label)  # noqa: S101 - or it is no classification
    validation, scores = training.out_of_bag(trained, parts.train)
    chosen = threshold.choose(scores, validation.targets)
    say(f"chose threshold {chosen:.7f} on {len(validation.targets)} rows, each out of bag")
    return _Judged(
        metrics=metrics.measure(test_scores, parts.test.targets, chosen, seed),
        labels=recipe.target.names,
        threshold=chosen,
        risk_levels=risk.levels(chosen),
        validated=Tally.of(scores, validation.targets),
    )


def _estimate(
    recipe: Recipe,
    trained: Trained,
    parts: Split,
    test_scores: NDArray[np.float64],
    *,
    seed: int,
    say: Callable[[str], None],
) -> _Judged:
    """Make intervals by training rows that a forest had not seen, and measure on the test part."""
    assert not isinstance(recipe.target, Label)  # noqa: S101 - or it is no regression
    values, true = interval.unseen(trained, recipe, parts.train, seed)
    step = trained.step / len(trained.forest.estimators_)
    made = interval.make(values, true, recipe.target, step, interval.METHODS[recipe.split])
    say(f"made intervals for {made.coverage:.0%} by {len(values)} rows that the forest had not seen")
    block = fit.block_length(len(parts.test.targets), recipe.split == "time")
    measured = fit.measure(test_scores, parts.test.targets, Estimate(made), block, seed)
    return _Judged(metrics=measured, interval=made)


def _contents(source: Table, recipe: Recipe) -> str:
    """Return what a table holds, in words."""
    rows = f"{len(source.targets)} rows"
    if isinstance(recipe.target, Label):
        return f"{rows}, {np.count_nonzero(source.targets)} {recipe.target.names[1]}"
    return f"{rows}, {source.targets.mean():.6g} {recipe.target.unit} in the mean"


def _of_each_label(recipe: Recipe, part: Part) -> list[NDArray[np.float32]]:
    """Return the rows of each label; of a regression, all together."""
    if isinstance(recipe.target, Label):
        return [part.rows[part.targets == label] for label in (0, 1)]
    return [part.rows]


def _trials(
    features: tuple[Feature, ...],
    test: Part,
    scores: NDArray[np.float64],
    decided: Decision | Estimate,
    nearest: int,
) -> list[Trial]:
    """Return the trials that both the gate and the golden rows use, but for those on splits."""
    boundaries = decided.boundaries
    middle = boundaries[len(boundaries) // 2 :][:1]
    return [
        trials.beyond_data(trials.nearest(test.rows, scores, middle, 1), features),
        trials.uniform(features),
        Trial(
            "threshold" if isinstance(decided, Decision) else "cut",
            trials.nearest(test.rows, scores, boundaries, -(-nearest // max(len(boundaries), 1))),
        ),
    ]


def _lacking(features: tuple[Feature, ...], parts: Split) -> list[Trial]:
    """Return the trial of missing values, if any may be missing."""
    trial = trials.missing(np.concatenate([parts.test.rows, parts.train.rows]), features)
    return [trial] if len(trial.rows) else []


def _ranged(features: tuple[Feature, ...], train: Part) -> tuple[Feature, ...]:
    """Return the features; numbers without a range have that of the training rows."""
    return tuple(
        replace(feature, minimum=float(np.nanmin(column)), maximum=float(np.nanmax(column)))
        if feature.type == "number" and feature.minimum is None and not np.isnan(column).all()
        else feature
        for feature, column in zip(features, train.rows.T, strict=True)
    )


def _lineage(recipe: Recipe, source: Table, trained: Trained, seed: int) -> Lineage:
    libraries = {name: importlib.metadata.version(name) for name in _LIBRARIES}
    parameters: dict[str, Any] = {**recipe.forest, "leaf_step": trained.step, "split": FRACTIONS}
    if recipe.split == "time":
        parameters["split_by"] = "time"
    if recipe.imputed:
        parameters["imputed"] = dict(recipe.imputed)
    return Lineage(
        recipe=recipe.name,
        data=source.name,
        data_digest=source.digest,
        rows=len(source.targets),
        seed=seed,
        libraries={**libraries, "onnxruntime": runtime.load().version},
        parameters={
            name: value if isinstance(value, str) else json.dumps(value)
            for name, value in sorted(parameters.items())
        },
    )
