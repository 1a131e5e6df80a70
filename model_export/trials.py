"""Rows made to trip a conversion: on the splits of the trees, next to the threshold, beyond the data."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from model_bundle.manifest import Feature
from model_export.training import Forest

Rows = NDArray[np.float32]

_HUGE = float(np.finfo(np.float32).max)
_TINY = float(np.finfo(np.float32).smallest_subnormal)
_MISSING = 20
_EXTREMES = np.array([0.0, -0.0, _TINY, -_TINY, 1e9, -1e9, _HUGE, -_HUGE], np.float32)


@dataclass(frozen=True, slots=True)
class Trial:
    """Rows of one kind.

    Attributes
    ----------
    kind : str
        What they try.
    rows : ndarray of float32, shape (rows, features)
    changed : ndarray of intp, shape (rows,), optional
        The feature that each row was changed in; None if the rows are real ones.
    """

    kind: str
    rows: Rows
    changed: NDArray[np.intp] | None = None


def on_splits(trees: list[Forest], train: Rows, features: Sequence[Feature]) -> Iterator[Trial]:
    """Yield, for each tree, rows that reach each of its splits and stand on the split's value.

    To every split come two training rows, one that goes on to the left and one to the right. In each, the
    split's feature is set to the split's value rounded to float32, and to one ulp below and above that; a
    category or a flag, which has no such values, to the codes on either side.

    Parameters
    ----------
    trees
        A forest's ``estimators_``, or some of them.
    train : ndarray of float32, shape (rows, features)
        What the forest was trained on, so that each leaf is reached by a row. None is missing.
    features
        Of the manifest.
    """
    discrete = np.array([feature.type != "number" for feature in features])
    least, greatest = np.array([_allowed(feature) for feature in features], np.float32).T
    infinity = np.float32(np.inf)
    for estimator in trees:
        tree = estimator.tree_
        reaching = _reaching(tree, tree.apply(train))
        splits = np.flatnonzero(tree.children_left >= 0)
        feature = tree.feature[splits].astype(np.intp)
        value = tree.threshold[splits].astype(np.float32)
        trial_values = np.stack(
            [np.nextafter(value, -infinity), value, np.nextafter(value, infinity)], axis=1
        )
        codes = np.floor(value)[:, None] + np.array([0, 1, 1], np.float32)
        trial_values = np.where(discrete[feature, None], codes, trial_values)
        trial_values = trial_values.clip(least[feature, None], greatest[feature, None])
        bases = np.stack(
            [reaching[tree.children_left[splits]], reaching[tree.children_right[splits]]], axis=1
        )
        rows = np.repeat(train[bases.ravel()], 3, axis=0)
        changed = np.repeat(feature, 6)
        rows[np.arange(changed.size), changed] = np.repeat(trial_values, 2, axis=0).ravel()
        yield Trial("split", rows, changed)


def _reaching(tree: Forest, leaves: NDArray[np.intp]) -> NDArray[np.intp]:
    """Return for each node of a tree a row that reaches it, given the leaf of each row."""
    reaching = np.full(tree.node_count, -1, np.intp)
    reaching[leaves] = np.arange(leaves.size)
    # A tree is numbered from the root down: backwards, children come before their parent.
    for node in range(tree.node_count - 1, -1, -1):
        child = tree.children_left[node]
        if child >= 0:
            reaching[node] = reaching[child]
    return reaching


def beyond_data(rows: Rows, features: Sequence[Feature]) -> Trial:
    """Return rows with each feature in turn set to zeros, to the tiniest and to the greatest numbers.

    A feature that takes no such number is set to the ends of what it takes, a category to each of its codes.

    Parameters
    ----------
    rows : ndarray of float32, shape (rows, features)
        What to start from.
    features
        Of the manifest.
    """
    values = [_extremes(feature) for feature in features]
    changed = np.tile(np.repeat(np.arange(len(features)), [each.size for each in values]), len(rows))
    extreme = np.repeat(rows, changed.size // len(rows), axis=0)
    extreme[np.arange(changed.size), changed] = np.tile(np.concatenate(values), len(rows))
    return Trial("extreme", extreme, changed)


def uniform(features: Sequence[Feature]) -> Trial:
    """Return rows that have the same extreme number in every feature, as far as it takes it."""
    columns = []
    for feature in features:
        column = _EXTREMES.clip(*_allowed(feature))
        columns.append(column if feature.type == "number" else np.rint(column))
    return Trial("uniform", np.column_stack(columns).astype(np.float32))


def missing(rows: Rows, features: Sequence[Feature]) -> Trial:
    """Return rows with each feature in turn missing, and with all of them, where they may be.

    Parameters
    ----------
    rows : ndarray of float32, shape (rows, features)
        What to start from. Those that lack something already are taken as they are, too.
    features
        Of the manifest.
    """
    may = [index for index, feature in enumerate(features) if feature.missing == "impute"]
    without = [rows[np.isnan(rows).any(axis=1)]]
    for lacking in [*([index] for index in may), *([may] if len(may) > 1 else [])]:
        changed = rows[:_MISSING].copy()
        changed[:, lacking] = np.nan
        without.append(changed)
    return Trial("missing", np.concatenate(without))


def nearest(rows: Rows, scores: NDArray[np.float64], boundaries: Sequence[float], count: int) -> Rows:
    """Return the rows whose scores are nearest to each boundary: up to ``count`` on either side."""
    chosen = []
    for boundary in boundaries:
        sides = [np.flatnonzero(scores < boundary), np.flatnonzero(scores >= boundary)]
        chosen += [side[np.argsort(np.abs(scores[side] - boundary), kind="stable")[:count]] for side in sides]
    return rows[np.concatenate(chosen)] if chosen else rows[: 2 * count]


def _allowed(feature: Feature) -> tuple[float, float]:
    """Return the least and the greatest code that a feature takes."""
    if feature.type != "number":
        return 0, (len(feature.categories) or 2) - 1
    if feature.out_of_range == "reject" and feature.minimum is not None and feature.maximum is not None:
        return feature.minimum, feature.maximum
    return -_HUGE, _HUGE


def _extremes(feature: Feature) -> Rows:
    """Return the codes of a feature to be tried."""
    least, greatest = _allowed(feature)
    if feature.type != "number":
        return np.arange(greatest + 1, dtype=np.float32)
    return _EXTREMES if greatest == _HUGE else np.array([least, greatest], np.float32)


def joined(trials: Iterable[Trial]) -> Trial:
    """Return trials of one kind as one."""
    first, *others = trials
    together = [first, *others]
    changed = [trial.changed for trial in together if trial.changed is not None]
    return Trial(
        first.kind,
        np.concatenate([trial.rows for trial in together]),
        np.concatenate(changed) if len(changed) == len(together) else None,
    )
