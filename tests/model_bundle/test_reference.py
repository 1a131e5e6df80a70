"""A bundle's reference: read, or refused with the place of the fault."""

import json
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from model_bundle import bundle, reference
from model_bundle.manifest import Feature
from model_bundle.reference import HistogramError

FEATURES = (
    Feature("amount", "number", "reject", minimum=0, maximum=9),
    Feature("colour", "category", "reject", categories=("red", "green", "blue")),
)
DOCUMENT: dict[str, Any] = {
    "schema_version": 1,
    "features": {
        "amount": {"rows": 9, "missing": 0, "edges": [1.0, 2.5], "counts": [2, 3, 4]},
        "colour": {"rows": 9, "missing": 1, "edges": [1.0, 2.0], "counts": [2, 3, 3]},
    },
    "score": {"rows": 4, "missing": 0, "edges": [0.5], "counts": [1, 3]},
}


def test_what_export_writes_is_read(fraud_bundle: Path):
    manifest, _ = bundle.read_manifest(fraud_bundle)
    found = reference.read(fraud_bundle, manifest)
    assert [each.name for each in found] == [*(feature.name for feature in manifest.features), "score"]
    kept = json.loads((fraud_bundle / bundle.REFERENCE).read_bytes())
    for each in found[:-1]:
        assert each.counts[1:-2].tolist() == kept["features"][each.name]["counts"]
        assert each.rows == kept["features"][each.name]["rows"]
        # What is bisected as float32 is as exact as in float64.
        np.testing.assert_array_equal(each.edges, each.edges.astype(np.float32).astype(np.float64))
        assert len(each.bins()) == len(each.counts) == len(each.edges) + 1


def test_bins_are_told_in_words():
    amount, colour, score = reference.from_bytes(json.dumps(DOCUMENT).encode(), FEATURES)
    assert amount.bins() == [
        "below the range", "below 1", "1 to 2.5", "from 2.5", "above the range", "missing",
    ]  # fmt: skip
    assert colour.bins() == ["below", "red", "green", "blue", "unknown", "missing"]
    assert (amount.discrete, colour.discrete, score.discrete) == (False, True, False)


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        (("schema_version",), 2, "schema_version is 2, but only 1 is known"),
        (("score",), None, "score: must be an object of rows, missing, edges, counts"),
        (("features", "other"), {}, "features: must be an object of amount, colour"),
        (("features", "amount", "edges"), [2.5, 1.0], "features.amount.edges: must be numbers that ascend"),
        (("features", "amount", "edges"), [1.0, "2"], "features.amount.edges: must be numbers that ascend"),
        (("features", "amount", "edges"), [1.0], "features.amount.counts: must be 2 whole numbers"),
        (("features", "amount", "counts"), [2, 3, -4], "features.amount.counts: must be 3 whole numbers"),
        (("features", "amount", "counts"), [2, 3, True], "features.amount.counts: must be 3 whole numbers"),
        (
            ("features", "amount", "rows"),
            8,
            "features.amount.rows: must be what counts and missing add up to",
        ),
        (("features", "colour", "edges"), [1.0, 3.0], "features.colour.edges: must be the codes 1 to 2"),
        (("score", "counts"), [0, 0], "score.rows: must be what"),
    ],
)
def test_a_fault_is_told_with_its_place(place: tuple[str, ...], value: object, message: str):
    document = deepcopy(DOCUMENT)
    *way, last = place
    inner = document
    for step in way:
        inner = inner[step]
    inner[last] = value
    with pytest.raises(HistogramError, match=r"^reference\.json: ") as caught:
        reference.from_bytes(json.dumps(document).encode(), FEATURES)
    assert message in str(caught.value)


def test_nothing_to_compare_with_and_no_json():
    document = deepcopy(DOCUMENT)
    document["score"] = {"rows": 0, "missing": 0, "edges": [], "counts": [0]}
    with pytest.raises(HistogramError, match=r"score\.rows: is 0"):
        reference.from_bytes(json.dumps(document).encode(), FEATURES)
    with pytest.raises(HistogramError, match="no JSON"):
        reference.from_bytes(b"{", FEATURES)


def test_another_file_than_the_manifests_is_refused(fraud_bundle: Path, tmp_path: Path):
    manifest, _ = bundle.read_manifest(fraud_bundle)
    with pytest.raises(HistogramError, match=r"reference\.json: No such file"):
        reference.read(tmp_path, manifest)
    (tmp_path / bundle.REFERENCE).write_bytes((fraud_bundle / bundle.REFERENCE).read_bytes() + b" ")
    with pytest.raises(HistogramError, match="its digest is not"):
        reference.read(tmp_path, manifest)
