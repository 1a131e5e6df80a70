"""A decision as a line of JSON.

What is the same for every decision of a bundle is put together once. Lines then take one serialisation of
rows, which gives each float32 its shortest digits, and one joining of bytes, for many rows together.
docs/decisions/0012-audit.md has what else was tried.
"""

import hmac
from collections.abc import Collection, Iterable
from operator import add
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from model_bundle.decision import Decision, Estimate
from model_bundle.manifest import Feature, Manifest

REQUEST_ID = 256
"""So many characters of a request's id are told: each row of a batch has it, and it may be as long as a
request may be large."""

_dumps = orjson.dumps
_NUMPY = orjson.OPT_SERIALIZE_NUMPY
# Of a line whose inputs come last.
_END = b"}}\n"


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
        # A label and a risk level change at these probabilities, and nowhere in between.
        self._bounds: list[float] = []
        self._estimate: Estimate | None = None
        outcomes = [b'"value":%b,"low":%b,"high":%b']
        if isinstance(decision, Decision):
            self._bounds = sorted({manifest.threshold, *(level.minimum for level in manifest.risk_levels)})
            outcomes = [_classified(decision, score) for score in (-1.0, *self._bounds)]
        else:
            self._estimate = decision
        bundle = tuple(_literal(text) for text in (manifest.model, manifest.version, digest))
        self._names = [_dumps(features[place].name) + b":" for place in kept]
        begin, end = b"", b""
        if self._plain:
            # Where a line begins, the one before has come to its last value.
            begin, end = _END, b',"inputs":{' + self._names[0].replace(b"%", b"%%")
            # Every other one has room for a value; the first one for a line's beginning.
            self._woven = [each for name in self._names for each in (b"," + name, b"")]
        self._heads = [
            begin
            + b'{"time":"%b.%06dZ","request_id":%b,"row":%b,"caller":%b,'
            + b'"model":%b,"version":%b,"digest":%b,' % bundle
            + b'"outcome":{%b},"latency":%%b' % outcome
            + end
            for outcome in outcomes
        ]

    def lines(
        self,
        rows: NDArray[np.float32],
        scores: NDArray[np.float64],
        *,
        requests: Iterable[bytes],
        places: Iterable[bytes],
        callers: Iterable[bytes],
        times: NDArray[np.int64],
        latencies: NDArray[np.float64],
    ) -> bytes:
        """Return records, the end of each line included.

        Parameters
        ----------
        rows : ndarray of float32, shape (rows, features)
            Their codes, of one row at least.
        scores : ndarray of float64, shape (rows,)
            The model's.
        requests, places, callers
            The requests' ids, the rows' places in them, and the callers' names: each as JSON.
        times : ndarray of int64, shape (rows,)
            When they were decided: ns since the epoch.
        latencies : ndarray of float64, shape (rows,)
            In seconds.
        """
        seconds, passed = np.divmod(times // 1000, 1_000_000)
        figures = [scores] if self._estimate is None else [scores, *self._estimate.intervals(scores)]
        outcomes = np.searchsorted(self._bounds, scores, side="right").tolist()
        told = zip(
            [text[1:-1] for text in _texts_of(seconds.astype("datetime64[s]"))],
            passed.tolist(),
            requests,
            places,
            callers,
            *map(_texts_of, figures),
            _texts_of(np.round(latencies, 6)),
            strict=True,
        )
        heads = [self._heads[outcome] % each for outcome, each in zip(outcomes, told, strict=True)]
        if not self._plain:
            kept = map(self._kept_of, _dumps(rows, None, _NUMPY)[2:-2].split(b"],["))
            return b"".join(head + each for head, each in zip(heads, kept, strict=True))
        # All values at once, each after its name.
        woven = self._woven * len(heads)
        woven[:: len(self._woven)] = heads
        woven[1::2] = _texts_of(rows.ravel())
        woven[0] = woven[0].removeprefix(_END)
        woven.append(_END)
        return b"".join(woven)

    def _kept_of(self, values: bytes) -> bytes:
        """Return what is kept of a row, and the end of its line."""
        if self._without:
            return b"}\n"
        pieces = values.split(b",")
        for place, texts in self._texts:
            pieces[place] = texts[pieces[place]]
        if self._kept is not None:
            pieces = [pieces[place] for place in self._kept]
        text = b"{" + b",".join(map(add, self._names, pieces)) + b"}"
        if self._key is None:
            return b',"inputs":%b}\n' % text
        return b',"inputs_hash":"hmac-sha256:%b"}\n' % hmac.digest(self._key, text, "sha256").hex().encode()


def is_redacted(redacted: Collection[str], model: str, feature: str) -> bool:
    """Return whether a feature is named by itself, or after its model: ``fraud.Amount``."""
    return feature in redacted or f"{model}.{feature}" in redacted


def _literal(text: str) -> bytes:
    """Return a text as JSON that stands in a format of bytes."""
    return _dumps(text).replace(b"%", b"%%")


def _texts_of(values: NDArray[Any]) -> list[bytes]:
    """Return numbers or times, shape (values,), each as JSON."""
    return _dumps(values, None, _NUMPY)[1:-1].split(b",")


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
