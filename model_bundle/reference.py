"""The reference: what features and score looked like in training, as histograms (docs/export.md)."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model_bundle import digest
from model_bundle.manifest import SCORE, Feature, Manifest

REFERENCE = "reference.json"

Counts = NDArray[np.int64]
"""How many rows are in which bin of a histogram, or of several, one after another."""

_SCHEMA_VERSION = 1


class HistogramError(ValueError):
    """A reference that cannot be used. The message names the file and the place in it."""


@dataclass(frozen=True, slots=True)
class Histogram:
    """How many rows of the reference had which values.

    Attributes
    ----------
    name : str
        The feature's, or `SCORE`.
    feature : Feature or None
        None for the score.
    edges : ndarray of float64, shape (bins + 3,)
        The least value of the reference; the edges between its bins; the first value above its greatest; and
        infinity. ``edges.searchsorted(value, "right")`` is a value's place in `counts`, NaN's too.
    counts : ndarray of int64, shape (bins + 4,)
        Rows below the reference's range (none), in each of its bins, above its range (none), and with a
        missing value. A code that is none of a category's or flag's is above its range.
    """

    name: str
    feature: Feature | None
    edges: NDArray[np.float64]
    counts: Counts

    @property
    def rows(self) -> int:
        """How many rows the reference had."""
        return int(self.counts.sum())

    @property
    def discrete(self) -> bool:
        """Whether each bin is one value: of a category or a flag."""
        return self.feature is not None and self.feature.type != "number"

    def bins(self) -> list[str]:
        """Return what is in each place of `counts`, in words."""
        if self.feature is not None and self.discrete:
            values = self.feature.categories or ("false", "true")
            return ["below", *values, "unknown", "missing"]
        inner = [f"{edge:.6g}" for edge in self.edges[1:-2]]
        ends = [
            f"below {inner[0]}",
            *(f"{low} to {high}" for low, high in pairwise(inner)),
            f"from {inner[-1]}",
        ]
        return ["below the range", *(ends if inner else ["any"]), "above the range", "missing"]


Reference = tuple[Histogram, ...]
"""A histogram for each feature, in the model's order, and then the score's."""


def read(folder: Path, manifest: Manifest) -> Reference:
    """Read a bundle's reference.

    Raises
    ------
    HistogramError
        If it cannot be read, is not the one of the manifest, or is not formed as it must be.
    """
    try:
        data = (folder / REFERENCE).read_bytes()
    except OSError as error:
        raise HistogramError(f"{REFERENCE}: {error.strerror or error}") from error
    if digest.of_bytes(data) != manifest.files[REFERENCE]:
        raise HistogramError(f"{REFERENCE}: its digest is not the one that the manifest says")
    return from_bytes(data, manifest.features)


def from_bytes(data: bytes, features: tuple[Feature, ...]) -> Reference:
    """Return the reference that a file holds, for a model of these features.

    Raises
    ------
    HistogramError
        If it is not formed as it must be.
    """
    try:
        document = json.loads(data)
    except ValueError as error:
        raise HistogramError(f"{REFERENCE}: no JSON: {error}") from error
    found = _mapping(document, "", "features", SCORE, "schema_version")
    if found["schema_version"] != _SCHEMA_VERSION:
        raise HistogramError(
            f"{REFERENCE}: schema_version is {found['schema_version']!r}, but only {_SCHEMA_VERSION} is known"
        )
    of_features = _mapping(found["features"], "features", *(feature.name for feature in features))
    return (
        *(_histogram(of_features[feature.name], f"features.{feature.name}", feature) for feature in features),
        _histogram(found[SCORE], SCORE, None),
    )


def _mapping(value: object, place: str, *names: str) -> Mapping[str, Any]:
    if not isinstance(value, dict) or value.keys() != set(names):
        raise _error(place, f"must be an object of {', '.join(names)}")
    return value


def _histogram(value: object, place: str, feature: Feature | None) -> Histogram:
    found = _mapping(value, place, "rows", "missing", "edges", "counts")
    edges, counts = found["edges"], found["counts"]
    if not _numbers(edges) or not all(low < high for low, high in pairwise(edges)):
        raise _error(f"{place}.edges", "must be numbers that ascend")
    if not _wholes(counts) or len(counts) != len(edges) + 1:
        raise _error(f"{place}.counts", f"must be {len(edges) + 1} whole numbers, one more than edges")
    if not _wholes([found["missing"], found["rows"]]) or sum(counts) + found["missing"] != found["rows"]:
        raise _error(f"{place}.rows", "must be what counts and missing add up to")
    if not found["rows"]:
        raise _error(f"{place}.rows", "is 0: there is nothing to compare with")
    if feature is not None and feature.type != "number":
        codes = len(feature.categories) or 2
        if edges != list(range(1, codes)):
            raise _error(f"{place}.edges", f"must be the codes 1 to {codes - 1}")
        low, high = 0.0, codes - 1.0
    elif feature is None or feature.minimum is None or feature.maximum is None:
        low, high = -math.inf, math.inf
    else:
        low, high = feature.minimum, feature.maximum
    # Values are float32, and so compared with these as float32.
    above = np.nextafter(np.float32(high), np.float32(math.inf))
    return Histogram(
        SCORE if feature is None else feature.name,
        feature,
        np.array([np.float32(low), *edges, above, math.inf], np.float64),
        np.array([0, *counts, 0, found["missing"]], np.int64),
    )


def _numbers(value: object) -> bool:
    return isinstance(value, list) and all(
        type(each) in (int, float) and math.isfinite(each) for each in value
    )


def _wholes(value: object) -> bool:
    return isinstance(value, list) and all(type(each) is int and each >= 0 for each in value)


def _error(place: str, problem: str) -> HistogramError:
    return HistogramError(f"{REFERENCE}: {place + ': ' if place else ''}{problem}")
