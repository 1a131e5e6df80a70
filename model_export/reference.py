"""Reference histograms: what features and score looked like in training, for watching their drift.

The format is in docs/export.md.
"""

import json
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model_bundle.manifest import Feature
from model_export.split import Part

_BINS = 20
# Most scores of a rare label are next to nothing: the lowest bins are narrow.
_SCORE_EDGES = np.array(
    [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95]
)


def to_bytes(
    features: tuple[Feature, ...], train: Part, test_scores: NDArray[np.float64], classifies: bool
) -> bytes:
    """Return the histograms as JSON: each feature's on the training rows, the score's on the test rows."""
    document: dict[str, Any] = {
        "schema_version": 1,
        "features": {
            feature.name: _histogram(column, _edges(feature, column))
            for feature, column in zip(features, train.rows.T, strict=True)
        },
        "score": _histogram(test_scores, _SCORE_EDGES if classifies else _twentieths(test_scores)),
    }
    return (json.dumps(document, indent=1, allow_nan=False) + "\n").encode()


def _edges(feature: Feature, column: NDArray[np.float32]) -> NDArray[Any]:
    """Return a number's twentieths; for a category or a flag each code but the first: a bin for each."""
    if feature.type != "number":
        return np.arange(1, len(feature.categories) or 2)
    return _twentieths(column[~np.isnan(column)])


def _twentieths(values: NDArray[Any]) -> NDArray[Any]:
    if not values.size:
        return values
    shares = np.linspace(0, 1, _BINS + 1)[1:-1]
    edges: NDArray[Any] = np.unique(np.quantile(values, shares, method="inverted_cdf"))
    return edges


def _histogram(values: NDArray[Any], edges: NDArray[Any]) -> dict[str, Any]:
    missing = np.isnan(values)
    bins = np.searchsorted(edges, values[~missing], side="right")
    return {
        "rows": values.size,
        "missing": int(missing.sum()),
        "edges": [float(edge) for edge in edges],
        "counts": np.bincount(bins, minlength=edges.size + 1).tolist(),
    }
