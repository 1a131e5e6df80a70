"""The gate: no bundle is written unless ONNX Runtime scores as the trained forest does, bit for bit.

`model_bundle.decision` says what a server is allowed when it replays. Here nothing is: the forest's
scores are exact (`model_export.grid`), so any difference is a fault of the conversion.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from model_bundle.decision import Decision, Estimate
from model_bundle.encoding import Encoder
from model_bundle.session import Session
from model_export.error import ExportError
from model_export.training import Forest, Trained
from model_export.trials import Rows, Trial, joined

_AT_ONCE = 65_536
_ALONE = 1_000


class ParityError(ExportError):
    """A forest that cannot be converted, or a graph that does not score as its forest does."""

    status = 1


@dataclass(frozen=True, slots=True)
class Proof:
    """What the gate has compared of one kind of rows: how many, the worst difference, how many also alone."""

    kind: str
    rows: int
    worst: float
    alone: int


def prove(
    trained: Trained,
    train: Rows,
    *,
    session: Session,
    encoder: Encoder,
    decision: Decision | Estimate,
    trials: Iterable[Trial],
) -> list[Proof]:
    """Compare a session with the model that its graph was made from.

    Some rows of each kind are also scored alone, by way of the encoder as a server does it, and must get the
    same bits as in the batch.

    Parameters
    ----------
    trained
        The trained model.
    train : ndarray of float32, shape (rows, features)
        What it was trained on. Only features that it has something for may be missing.
    session
        Of the graph, bound to the encoder's row.
    encoder
        Of the manifest's features.
    decision
        Of the manifest.
    trials
        What to compare; those of one kind in succession are counted together.

    Returns
    -------
    list of Proof
        For each kind.

    Raises
    ------
    ParityError
        If the forest has learnt from missing values; or for the first row that scores differently, naming
        its kind, the feature it was changed in, and both outcomes.
    """
    names = [feature.name for feature in encoder.features]
    _refuse_missing_values(trained.forest, trained.fill(train), names)
    proofs: dict[str, Proof] = {}
    for trial in _batches(trials):
        right = trained.scores(trial.rows)
        served = session.score(trial.rows).astype(np.float64)
        wrong = np.flatnonzero(right != served)
        if wrong.size:
            first = int(wrong[0])
            scores = float(right[first]), float(served[first])
            raise _difference(trial, first, names, scores, decision)
        before = proofs.get(trial.kind, Proof(trial.kind, 0, 0.0, 0))
        alone = slice(0, max(_ALONE - before.alone, 0))
        _score_alone(trial, session, encoder, served[alone])
        proofs[trial.kind] = Proof(
            trial.kind,
            before.rows + len(trial.rows),
            max(before.worst, float(np.abs(right - served).max(initial=0))),
            before.alone + len(served[alone]),
        )
    return list(proofs.values())


def _refuse_missing_values(forest: Forest, train: Rows, features: list[str]) -> None:
    """Refuse a forest that has learnt from missing values: the graph would send each of them to the right.

    skl2onnx 1.20 does not read ``missing_go_to_left`` (sklearn-onnx#1253). A forest tells by itself that it
    saw missing values: it splits at infinity, or at some split it sends them where it would not have without
    any, which is to the side of more rows.

    Raises
    ------
    ParityError
        Naming a feature that had them.
    """
    for estimator in forest.estimators_:
        tree = estimator.tree_
        splits = np.flatnonzero(tree.children_left >= 0)
        left, right = tree.children_left[splits], tree.children_right[splits]
        by_size = tree.n_node_samples[left] > tree.n_node_samples[right]
        learnt = tree.missing_go_to_left[splits].astype(np.bool_) != by_size
        learnt |= ~np.isfinite(tree.threshold[splits])
        if learnt.any():
            raise _missing(features[tree.feature[splits[learnt][0]]])
    with_nan = np.flatnonzero(np.isnan(train).any(axis=0))
    if with_nan.size:
        raise _missing(features[with_nan[0]])


def _batches(trials: Iterable[Trial]) -> Iterator[Trial]:
    """Join trials of one kind in succession until they are worth a call."""
    held: list[Trial] = []
    for trial in trials:
        if held and (held[0].kind != trial.kind or sum(len(item.rows) for item in held) >= _AT_ONCE):
            yield joined(held)
            held = []
        if len(trial.rows):
            held.append(trial)
    if held:
        yield joined(held)


def _score_alone(trial: Trial, session: Session, encoder: Encoder, batch: NDArray[np.float64]) -> None:
    for index, expected in enumerate(batch):
        encoder.encode_vector(trial.rows[index].tolist())
        score = session.score_row()
        if score != expected:
            raise ParityError(
                f"{trial.kind} row {index}: {score!r} alone, but {float(expected)!r} in a batch"
            )


def _difference(
    trial: Trial, index: int, names: list[str], scores: tuple[float, float], decision: Decision | Estimate
) -> ParityError:
    place = f"{trial.kind} row {index}"
    if trial.changed is not None:
        feature = trial.changed[index]
        place += f" with {names[feature]} at {float(trial.rows[index, feature])!r}"
    forest, graph = (_told(decision, score) for score in scores)
    return ParityError(f"{place}: the trained forest gives {forest}, ONNX Runtime {graph}")


def _told(decision: Decision | Estimate, score: float) -> str:
    if isinstance(decision, Decision):
        return f"probability {score!r} ({decision.label(score)})"
    return f"value {score!r}"


def _missing(feature: str) -> ParityError:
    return ParityError(
        f"the forest has learnt from missing values of {feature}: the graph would send every one of them to "
        "the right (sklearn-onnx#1253)"
    )
