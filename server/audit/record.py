"""A decision as a line of JSON.

What is the same for every decision of a bundle is put together once. Lines then take one serialisation of
rows, which gives each float32 its shortest digits, and one joining of bytes, for many rows together.
docs/decisions/0012-audit.md has what else was tried.
"""

import hmac
import time
from bisect import bisect_right
from collections.abc import Collection, Iterable
from operator import add

import numpy as np
import orjson
from numpy.typing import NDArray

from model_bundle.decision import Decision, Estimate
from model_bundle.manifest import Feature, Manifest

Head = tuple[bytes, int, bytes, bytes, bytes]
"""`second_of` the time, and the microseconds that have passed of it; request id, row and caller as JSON."""

REQUEST_ID = 256
"""So many characters of a request's id are told: each row of a batch has it, and it may be as long as a
request may be large."""

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
        # Of a line, in bytes, or nearly so.
        self.size = 350 + 17 * len(manifest.features)
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
        self._without = inputs == "none"
        self._plain = not self._texts and self._kept is None and self._key is None
        bundle = tuple(_literal(text) for text in (manifest.model, manifest.version, digest))
        self._begin = b'{"time":"%b.%06dZ","request_id":%b,"row":%b,"caller":%b,'
        self._begin += b'"model":%b,"version":%b,"digest":%b,' % bundle + (
            b'"inputs":{' if self._plain else b""
        )
        self._names = [_dumps(features[place].name) + b":" for place in kept]
        # Every other one has room for a value.
        self._woven = [
            each for place, name in enumerate(self._names) for each in ((b"," if place else b"") + name, b"")
        ]
        self._estimate = None if isinstance(decision, Decision) else decision
        # A label and a risk level change at these probabilities, and nowhere in between.
        self._bounds: list[float] = []
        outcomes = [b'"value":%b,"low":%b,"high":%b']
        if isinstance(decision, Decision):
            self._bounds = sorted({manifest.threshold, *(level.minimum for level in manifest.risk_levels)})
            outcomes = [_classified(decision, score) for score in (-1.0, *self._bounds)]
        closing = b"}," if self._plain else b""
        self._ends = [closing + b'"outcome":{' + each + b'},"latency":%.6f}\n' for each in outcomes]

    def lines(
        self,
        heads: Iterable[Head],
        rows: NDArray[np.float32],
        scores: Iterable[float],
        latencies: Iterable[float],
    ) -> bytes:
        """Return records, the end of each line included.

        Parameters
        ----------
        heads
            What each begins with.
        rows : ndarray of float32, shape (rows, features)
            Their codes, of one row at least.
        scores
            The model's.
        latencies
            In seconds.
        """
        values = _dumps(rows, None, _NUMPY)[2:-2]
        begins = [self._begin % head for head in heads]
        ends = list(map(self._end, scores, latencies))
        if not self._plain:
            return b"".join(
                begin + self._kept_of(row) + end
                for begin, row, end in zip(begins, values.split(b"],["), ends, strict=True)
            )
        # All values at once, each after its name. The first name of a row is after its beginning, which is
        # after the end of the row before.
        woven = self._woven * len(begins)
        woven[1::2] = values.replace(b"],[", b",").split(b",")
        opening = woven[0]
        woven[:: len(self._woven)] = [
            before + begin + opening for before, begin in zip((b"", *ends), begins, strict=False)
        ]
        return b"".join(woven) + ends[-1]

    def _end(self, score: float, latency: float) -> bytes:
        figures: tuple[bytes, ...] = (_dumps(score),)
        if self._estimate is not None:
            figures += tuple(map(_dumps, self._estimate.interval(score)))
        return self._ends[bisect_right(self._bounds, score)] % (*figures, latency)

    def _kept_of(self, values: bytes) -> bytes:
        """Return what is kept of a row."""
        if self._without:
            return b""
        pieces = values.split(b",")
        for place, texts in self._texts:
            pieces[place] = texts[pieces[place]]
        if self._kept is not None:
            pieces = [pieces[place] for place in self._kept]
        text = b"{" + b",".join(map(add, self._names, pieces)) + b"}"
        if self._key is None:
            return b'"inputs":' + text + b","
        return b'"inputs_hash":"hmac-sha256:%b",' % hmac.digest(self._key, text, "sha256").hex().encode()


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
