"""What is kept of a model's decisions: how many of which kind, what rows looked like, and each on record."""

import json
import threading
from collections.abc import Generator
from dataclasses import dataclass
from itertools import product
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from model_bundle.bundle import Bundle
from model_bundle.counter import Counter
from model_bundle.decision import Decision
from model_bundle.reference import Reference
from server.call import Call
from server.store import Store

LOOKED = 1000
"""So many rows a second are looked at for drift, in each process: far more than a judgement needs."""

_PROBABILITIES = (0.01, 0.05, *(tenth / 10 for tenth in range(1, 10)), 0.95, 0.99, 1.0)
# Rows that are counted in one go, a third of a millisecond: meanwhile nobody else scores a single row.
_BLOCK = 128
_NOTED = 256


@dataclass(frozen=True, slots=True)
class Identity:
    """Which model has decided, and by what."""

    name: str
    version: str
    digest: str
    bundle: Bundle


class Audit(Protocol):
    """What puts decisions on record."""

    def row(self, call: Call, model: Identity, row: NDArray[np.float32], score: float) -> None:
        """Put a row and its score on record. The row is overwritten by the next one: it is copied."""

    def rows(
        self, call: Call, model: Identity, rows: NDArray[np.float32], scores: NDArray[np.float64]
    ) -> Generator[None, None, None]:
        """Put many rows on record, step by step."""

    def commit(self) -> None:
        """Have on record what was put there, before answers are sent.

        Raises
        ------
        StatusError
            If it cannot be: answers to calls that are `recorded` must not be sent.
        """


class Decisions:
    """The decisions of one version of a model.

    Parameters
    ----------
    model
        Which one, and what it decides by.
    reference
        What its rows looked like in training.
    lock
        Held by who encodes and scores a row.
    store
        Where decisions are counted.
    audit
        Puts them on record, if anything does.
    """

    def __init__(
        self,
        model: Identity,
        reference: Reference,
        *,
        lock: threading.Lock,
        store: Store,
        audit: Audit | None,
    ):
        self._model = model
        self._lock = lock
        self._audit = audit
        labels = {"model": model.name, "version": model.version}
        decision = self._decision = model.bundle.decision
        self._rows = store.cells("forest_rows_total", labels)
        # By label, and then by risk level.
        self._outcomes: list[memoryview] = []
        if isinstance(decision, Decision):
            bounds = _PROBABILITIES
            for label, level in product(decision.labels, decision.risk_levels):
                of_outcome = {"label": label, "risk_level": level}
                self._outcomes.append(store.cells("predictions_total", labels | of_outcome))
        else:
            # Those between the reference's bins: as many values of the training rows are between any two.
            bounds = tuple(reference[-1].edges[1:-2].tolist())
        self._bounds = bounds
        self._scores = store.cells("model_score", labels | {"bounds": json.dumps(bounds)}, len(bounds) + 2)
        # The sum is the one number that is no whole one: values may be as large as they like.
        self._sum = self._scores[-1:].cast("B").cast("d")
        # Scores of single rows, until some are counted together.
        self._kept = memoryview(bytearray(8 * _NOTED)).cast("d")
        self._noted = 0
        self._counter = Counter(reference)
        self._left = LOOKED
        self._looked: list[NDArray[np.int64]] = []
        for histogram in reference:
            of_feature = labels | {"feature": histogram.name}
            size = histogram.counts.size
            shape = of_feature | {"discrete": str(int(histogram.discrete))}
            np.asarray(store.cells("data_reference", shape, size))[:] = histogram.counts
            self._looked.append(np.asarray(store.cells("data_rows", of_feature, size)))

    def row(self, call: Call, row: NDArray[np.float32], score: float) -> None:
        """Take note of a decision. The model's lock is held.

        Parameters
        ----------
        call
            Whose row it is.
        row : ndarray of float32, shape (features,)
            As it was scored.
        score
            What the model made of it.
        """
        noted = self._noted
        self._kept[noted] = score
        self._noted = noted + 1
        if self._noted == _NOTED:
            self._count_kept()
        if self._left:
            self._left -= 1
            self._counter.add(row, score)
        if self._audit:
            self._audit.row(call, self._model, row, score)

    def rows(
        self, call: Call, rows: NDArray[np.float32], scores: NDArray[np.float64]
    ) -> Generator[None, None, None]:
        """Take note of many decisions, step by step.

        Parameters
        ----------
        call
            Whose rows they are.
        rows : ndarray of float32, shape (rows, features)
            As they were scored.
        scores : ndarray of float64, shape (rows,)
            What the model made of them.
        """
        if self._audit:
            yield from self._audit.rows(call, self._model, rows, scores)
        with self._lock:
            self._count(scores)
            looked = min(self._left, len(rows))
            self._left -= looked
        if looked:
            # Some from everywhere: rows may come sorted.
            chosen = slice(None) if looked == len(rows) else np.linspace(0, len(rows) - 1, looked).astype(int)
            rows, scores = rows[chosen], scores[chosen]
            for first in range(0, looked, _BLOCK):
                if first:
                    yield
                with self._lock:
                    self._counter.add_all(rows[first : first + _BLOCK], scores[first : first + _BLOCK])

    def flush(self) -> None:
        """Put what was noted where it is read, and look at rows anew. Called every second."""
        with self._lock:
            self._count_kept()
            found = self._counter.parts(self._counter.take())
            self._left = LOOKED
            # Two threads may be at this: one each second, and the one by which a model goes.
            for looked, counts in zip(self._looked, found, strict=True):
                np.add(looked, counts, out=looked)

    def _count_kept(self) -> None:
        noted, self._noted = self._noted, 0
        if noted:
            self._count(np.array(self._kept[:noted]))

    def _count(self, scores: NDArray[np.float64]) -> None:
        decision = self._decision
        self._rows[0] += len(scores)
        if isinstance(decision, Decision):
            places = decision.label_indices(scores) * len(decision.risk_levels)
            places += decision.risk_level_indices(scores)
            decided = np.bincount(places, minlength=len(self._outcomes)).tolist()
            for cells, count in zip(self._outcomes, decided, strict=True):
                cells[0] += count
        whole = np.asarray(self._scores)[:-1]
        whole += np.bincount(np.searchsorted(self._bounds, scores, side="left"), minlength=len(whole))
        self._sum[0] += scores.sum()
