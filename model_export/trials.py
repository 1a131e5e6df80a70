"""Rows made to trip a conversion: on the splits of the trees, next to the threshold, beyond the data."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from model_export.training import Forest

Rows = NDArray[np.float32]

_HUGE = float(np.finfo(np.float32).max)
_TINY = float(np.finfo(np.float32).smallest_subnormal)
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


def on_splits(trees: list[Forest], train: Rows) -> Iterator[Trial]:
    """Yield, for each tree, rows that reach each of its splits and stand on the split's value.

    To every split come two training rows, one that goes on to the left and one to the right. In each, the
    split's feature is set to the split's value rounded to float32, and to one ulp below and above that.

    Parameters
    ----------
    trees
        A forest's ``estimators_``, or some of them.
    train : ndarray of float32, shape (rows, features)
        What the forest was trained on, so that each leaf is reached by a row.
    """
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
        trial_values = trial_values.clip(-_HUGE, _HUGE)
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


def beyond_data(rows: Rows) -> Trial:
    """Return rows with each feature in turn set to zeros, to the tiniest and to the greatest numbers.

    Parameters
    ----------
    rows : ndarray of float32, shape (rows, features)
        What to start from.
    """
    count, features = rows.shape
    changed = np.tile(np.repeat(np.arange(features), len(_EXTREMES)), count)
    extreme = np.repeat(rows, features * len(_EXTREMES), axis=0)
    extreme[np.arange(changed.size), changed] = np.tile(_EXTREMES, count * features)
    return Trial("extreme", extreme, changed)


def uniform(features: int) -> Trial:
    """Return rows that have the same extreme number in every feature."""
    return Trial("uniform", np.repeat(_EXTREMES[:, None], features, axis=1))


def nearest(rows: Rows, scores: NDArray[np.float64], threshold: float, count: int) -> Rows:
    """Return the rows whose scores are nearest to the threshold: up to ``count`` on either side."""
    sides = [np.flatnonzero(scores < threshold), np.flatnonzero(scores >= threshold)]
    chosen = [side[np.argsort(np.abs(scores[side] - threshold), kind="stable")[:count]] for side in sides]
    return rows[np.concatenate(chosen)]


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
