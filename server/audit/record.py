"""A decision as a line of JSON.

What is the same for every decision of a bundle is put together once. A line then takes one serialisation of the
row, which gives each float32 its shortest digits, and one formatting of bytes. docs/decisions/0011-audit.md has
what else was tried.
"""

import hmac
import time
from bisect import bisect_right
from collections.abc import Collection
from typing import Literal

import numpy as np
import orjson
from numpy.typing import NDArray

from model_bundle.decision import Decision, Estimate
from model_bundle.manifest import Feature, Manifest

Inputs = Literal["values", "hash", "none"]
"""What a record has of a row: its values by feature, a keyed hash of them, or nothing."""

_dumps = orjson.dumps
_NUMPY = orjson.OPT_SERIALIZE_NUMPY


class Form:
    """Makes the lines of one bundle.

    Parameters
    ----------
    manifest, digest
        The bundle's.
    decision
        What makes an outcome of a score.
    inputs
        What is kept of a row.
    redacted
        Names of features that are left out, as `is_redacted` reads them.
    key
        Of the hash: HMAC with SHA-256.
    """

    def __init__(
        self,
        manifest: Manifest,
        digest: str,
        decision: Decision | Estimate,
        inputs: Inputs = "values",
        redacted: Collection[str] = (),
        key: bytes = b"",
    ):
        self._key = key if inputs == "hash" else None
        features = manifest.features
        kept = [
            place
            for place, feature in enumerate(features)
            if inputs != "none" and not is_redacted(redacted, manifest.model, feature.name)
        ]
        self._kept = None if len(kept) == len(features) else kept
        self._texts = [
            (place, _texts(feature))
            for place, feature in enumerate(features)
            if place in kept and feature.type != "number"
        ]
        named = b",".join(_literal(features[place].name) + b":%b" for place in kept)
        self._values = b"{" + named + b"}"
        held = {"values": b'"inputs":' + self._values + b",", "hash": b'"inputs_hash":"hmac-sha256:%b",'}
        self._line = b"".join(
            (
                b'{"time":"%b.%06dZ","request_id":%b,"row":%b,"caller":%b,',
                b'"model":%b,"version":%b,"digest":%b,'
                % (_literal(manifest.model), _literal(manifest.version), _literal(digest)),
                held.get(inputs, b""),
                b'"outcome":{%b},"latency":%.6f}\n',
            )
        )
        self._estimate = None if isinstance(decision, Decision) else decision
        # A label and a risk level change at these probabilities, and nowhere in between.
        self._bounds: list[float] = []
        self._outcomes: list[bytes] = []
        if isinstance(decision, Decision):
            self._bounds = sorted({manifest.threshold, *(level.minimum for level in manifest.risk_levels)})
            self._outcomes = [_classified(decision, score) for score in (-1.0, *self._bounds)]

    def line(
        self,
        second: bytes,
        microseconds: int,
        request_id: bytes,
        row: bytes,
        caller: bytes,
        values: bytes,
        score: float,
        latency: float,
    ) -> bytes:
        """Return a record, its end of line included.

        Parameters
        ----------
        second, microseconds
            The time: `second_of`, and what has passed of it.
        request_id, row, caller
            As JSON.
        values
            The row's codes in JSON, between commas: as `row_values` gives them.
        score
            The model's.
        latency
            In seconds.
        """
        pieces = values.split(b",")
        for place, texts in self._texts:
            pieces[place] = texts[pieces[place]]
        if self._kept is not None:
            pieces = [pieces[place] for place in self._kept]
        if self._key is not None:
            text = self._values % tuple(pieces)
            pieces = [hmac.digest(self._key, text, "sha256").hex().encode()]
        return self._line % (
            *(second, microseconds, request_id, row, caller, *pieces),
            *(self._outcome(score), latency),
        )

    def _outcome(self, score: float) -> bytes:
        if self._estimate is None:
            return self._outcomes[bisect_right(self._bounds, score)] % _dumps(score)
        low, high = self._estimate.interval(score)
        return b'"value":%b,"low":%b,"high":%b' % (_dumps(score), _dumps(low), _dumps(high))


def row_values(row: NDArray[np.float32]) -> bytes:
    """Return a row's codes, shape (features,), as JSON between commas: null for a missing value."""
    return _dumps(row, None, _NUMPY)[1:-1]


def rows_values(matrix: NDArray[np.float32]) -> list[bytes]:
    """Return the same of each row of a matrix, shape (rows, features), with one row at least."""
    return _dumps(matrix, None, _NUMPY)[2:-2].split(b"],[")


def second_of(seconds: int) -> bytes:
    """Return a second since the epoch in UTC, as the first part of a record's time."""
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)).encode()


def is_redacted(redacted: Collection[str], model: str, feature: str) -> bool:
    """Return whether a feature is named by itself, or after its model: ``fraud.Amount``."""
    return feature in redacted or f"{model}.{feature}" in redacted


def _literal(text: str) -> bytes:
    """Return a text as JSON that stands in a format of bytes."""
    return _dumps(text).replace(b"%", b"%%")


def _texts(feature: Feature) -> dict[bytes, bytes]:
    """Return what a category's or a flag's codes stand for, both as JSON."""
    values = feature.categories or (False, True)
    texts = {b"%d.0" % code: _dumps(value) for code, value in enumerate(values)}
    return texts | {b"-0.0": texts[b"0.0"], b"null": b"null"}


def _classified(decision: Decision, probability: float) -> bytes:
    """Return an outcome but for its probability."""
    return b'"probability":%%b,"label":%b,"threshold":%b,"risk_level":%b' % (
        _literal(decision.label(probability)),
        _dumps(decision.threshold),
        _literal(decision.risk_level(probability)),
    )
