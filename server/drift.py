"""Whether what the models score is still like their training data: sliding windows over the rows counted.

Rows are counted where they are scored, by the reference's bins, and only ever added to. Here is what came of
them in the last so many seconds, and what `model_bundle.drift` says of that.
"""

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from model_bundle.counter import Window
from model_bundle.drift import Judgement, judge
from model_bundle.reference import Counts
from server.store import Key

REFERENCE, ROWS = "data_reference", "data_rows"
"""What a store has of each model's feature, and of the score: the reference by bins, and the rows so far."""

BLOCKS = 60
"""How many blocks a window has: it moves on by one of them."""

# How long judgements are good for: as often rows are put where they are counted.
_GOOD_FOR = 1.0

# A model's name and version.
_Model = tuple[str, str]
Snapshot = Mapping[Key, Sequence[int]]
"""What a store had at one time."""


@dataclass(frozen=True, slots=True)
class Feature:
    """How a feature of a model, or its score, is judged in the window.

    Attributes
    ----------
    model, version, name : str
        Which one; ``score`` is the score.
    judgement : Judgement
        What is said of it.
    """

    model: str
    version: str
    name: str
    judgement: Judgement


@dataclass(frozen=True, slots=True)
class _Reference:
    """The features' names, whether each is discrete, and the reference's counts, in one order."""

    names: tuple[str, ...]
    discrete: tuple[bool, ...]
    counts: tuple[tuple[int, ...], ...]


class _Watched:
    """A model that is served."""

    def __init__(self, reference: _Reference):
        self.reference = reference
        sizes = [len(counts) for counts in reference.counts]
        self.starts = np.cumsum(sizes)[:-1]
        self.parts = [np.array(counts, np.int64) for counts in reference.counts]
        self.window = Window(BLOCKS, sum(sizes))

    def judge(self, name: str, version: str) -> list[Feature]:
        counted = np.split(self.window.counts, self.starts)
        return [
            Feature(name, version, feature, judge(reference, counts, len(self.parts), discrete=discrete))
            for feature, discrete, reference, counts in zip(
                self.reference.names, self.reference.discrete, self.parts, counted, strict=True
            )
        ]


class Drift:
    """Sliding windows over the rows of each model that is served.

    A model that comes, comes back or has another reference begins with an empty window.

    Parameters
    ----------
    seconds
        How long a window is.
    clock
        Tells the time, in seconds.

    Attributes
    ----------
    block : float
        How long each of its blocks is, in seconds. `look` is to be called as often.
    """

    def __init__(self, seconds: float, clock: Callable[[], float] = time.monotonic):
        self.block = seconds / BLOCKS
        self._clock = clock
        self._lock = threading.Lock()
        self._turn = clock() + self.block
        self._watched: dict[_Model, _Watched] = {}
        # All rows ever counted, as of the last look.
        self._seen: dict[_Model, Counts] | None = None
        self._judged: list[Feature] = []
        self._good_until = -np.inf

    def look(self, snapshots: Sequence[Snapshot]) -> list[Feature]:
        """Take what has been counted since the last look into the windows, and judge them.

        Parameters
        ----------
        snapshots
            Of all stores, the same ones each time.

        Returns
        -------
        list of Feature
            A second old at most.
        """
        references, counts = _read(snapshots)
        with self._lock:
            now = self._clock()
            turns = int((now - self._turn) // self.block) + 1
            self._turn += turns * self.block
            for watched in self._watched.values():
                for _ in range(min(turns, BLOCKS)):
                    watched.window.turn()
            changed = self._take(references, counts)
            if changed or now >= self._good_until:
                self._judged = [
                    feature
                    for (name, version), watched in self._watched.items()
                    for feature in watched.judge(name, version)
                ]
                self._good_until = now + _GOOD_FOR
            return self._judged

    def _take(self, references: Mapping[_Model, _Reference], counts: Mapping[_Model, Counts]) -> bool:
        """Add new rows to the windows; return whether a model has come or gone."""
        changed = self._watched.keys() != references.keys()
        for model in self._watched.keys() - references.keys():
            del self._watched[model]
        seen = dict(self._seen or {})
        for model, reference in references.items():
            watched = self._watched.get(model)
            # At the very first look nobody knows when the rows that there are came.
            before = counts[model] if self._seen is None else seen.get(model, np.int64(0))
            if watched is None or watched.reference != reference:
                changed = True
                self._watched[model] = watched = _Watched(reference)
                if model in seen:
                    before = counts[model]
            # Fewer than before if a worker has come to know another reference, or if somebody has read later
            # and looked first: no row counts again.
            watched.window.add(np.maximum(counts[model] - before, 0))
            seen[model] = np.maximum(counts[model], before)
        self._seen = seen
        return changed


def _read(snapshots: Sequence[Snapshot]) -> tuple[dict[_Model, _Reference], dict[_Model, Counts]]:
    """Return the reference of each model that is served, and its rows so far, one feature after another."""
    served = {
        (of["model"], of["version"])
        for snapshot in snapshots
        for (name, labels), cells in snapshot.items()
        if name == "model" and cells[0]
        for of in (dict(labels),)
    }
    references: dict[_Model, _Reference] = {}
    counts: dict[_Model, Counts] = {}
    for snapshot in snapshots:
        features: dict[_Model, dict[str, tuple[bool, tuple[int, ...]]]] = {}
        rows: dict[tuple[_Model, str], Sequence[int]] = {}
        for (name, labels), cells in snapshot.items():
            if name not in (REFERENCE, ROWS):
                continue
            of = dict(labels)
            model, feature = (of["model"], of["version"]), of["feature"]
            if name == ROWS:
                rows[model, feature] = cells
            elif model in served:
                features.setdefault(model, {})[feature] = of["discrete"] == "1", tuple(cells)
        for model, found in features.items():
            discrete, parts = zip(*found.values(), strict=True)
            reference = _Reference(tuple(found), discrete, parts)
            # Workers that follow a folder may know another one for a moment.
            if references.setdefault(model, reference) == reference:
                own = [
                    rows.get((model, feature), [0] * len(part))
                    for feature, part in zip(found, parts, strict=True)
                ]
                total = np.concatenate([np.array(part, np.int64) for part in own])
                counts[model] = counts[model] + total if model in counts else total
    return references, counts
