"""A decision as a line of JSON.

What is the same for every decision of a bundle is put together once. A line then takes one serialisation of
the row, which gives each float32 its shortest digits, and one joining of bytes.
docs/decisions/0012-audit.md has what else was tried.
"""

import hmac
import time
from bisect import bisect_right
from collections.abc import Collection
from operator import add

import numpy as np
import orjson
from numpy.typing import NDArray

from model_bundle.decision import Decision, Estimate
from model_bundle.manifest import Feature, Manifest

Head = tuple[bytes, int, bytes, bytes, bytes]
"""`second_of` the time, and the microseconds that have passed of it; request id, row and caller as JSON."""

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
        What is kept of a row: its ``values`` by feature, a keyed ``hash`` of them, or ``none``.
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
        *,
        inputs: str = "values",
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
        self._plain = not self._texts and self._kept is None and self._key is None
        bundle = tuple(_literal(text) for text in (manifest.model, manifest.version, digest))
        self._begin = b'{"time":"%b.%06dZ","request_id":%b,"row":%b,"caller":%b,'
        self._begin += b'"model":%b,"version":%b,"digest":%b,' % bundle
        self._names = [_dumps(features[place].name) + b":" for place in kept]
        if inputs == "values":
            self._line = _around(b'"inputs":{', self._names, b'},"outcome":{')
        elif inputs == "hash":
            self._line = _around(b'"inputs_hash":"hmac-sha256:', [b""], b'","outcome":{')
        else:
            self._line = _around(b"", [], b'"outcome":{')
        self._estimate = None if isinstance(decision, Decision) else decision
        # A label and a risk level change at these probabilities, and nowhere in between.
        self._bounds: list[float] = []
        outcomes = [b'"value":%b,"low":%b,"high":%b']
        if isinstance(decision, Decision):
            self._bounds = sorted({manifest.threshold, *(level.minimum for level in manifest.risk_levels)})
            outcomes = [_classified(decision, score) for score in (-1.0, *self._bounds)]
        self._ends = [each + b'},"latency":%.6f}\n' for each in outcomes]

    def line(self, head: Head, values: bytes, score: float, latency: float) -> bytes:
        """Return a record, its end of line included.

        Parameters
        ----------
        head
            What a record begins with.
        values
            The row's codes in JSON, between commas: as `row_values` gives them.
        score
            The model's.
        latency
            In seconds.
        """
        pieces = values.split(b",") if self._plain else self._kept_of(values)
        figures: tuple[bytes, ...] = (_dumps(score),)
        if self._estimate is not None:
            figures += tuple(map(_dumps, self._estimate.interval(score)))
        line = self._line.copy()
        line[0] = self._begin % head
        line[2:-2:2] = pieces
        line[-1] = self._ends[bisect_right(self._bounds, score)] % (*figures, latency)
        return b"".join(line)

    def _kept_of(self, values: bytes) -> list[bytes]:
        """Return what is kept of a row, each as JSON."""
        if not self._names and self._key is None:
            return []
        pieces = values.split(b",")
        for place, texts in self._texts:
            pieces[place] = texts[pieces[place]]
        if self._kept is not None:
            pieces = [pieces[place] for place in self._kept]
        if self._key is not None:
            text = b"{" + b",".join(map(add, self._names, pieces)) + b"}"
            pieces = [hmac.digest(self._key, text, "sha256").hex().encode()]
        return pieces


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


def _around(opening: bytes, names: list[bytes], closing: bytes) -> list[bytes]:
    """Return what stands around a line's values, with room for them: for `Form.line` to fill in.

    The first place is for the line's beginning, the last one for its end. Values are at every other place,
    from the third to the last but two.
    """
    if not names:
        return [b"", opening + closing, b""]
    line = [b"", opening + names[0], b""]
    for name in names[1:]:
        line += [b"," + name, b""]
    return [*line, closing, b""]


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
