"""The manifest: what is written is read again, and nothing else is."""

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

import model_bundle
from model_bundle import bundle
from model_bundle.manifest import (
    Feature,
    Graph,
    Interval,
    Lineage,
    Manifest,
    ManifestError,
    Metric,
    RiskLevel,
    check_name,
    version_key,
)

DIGEST = "sha256:" + "0a" * 32
MANIFEST = Manifest(
    model="fraud",
    version="1.20.3",
    task="binary_classification",
    description="Größe, and more.",
    features=(
        Feature("Amount", "number", "reject", "How much.", 0.0, 25.5, "reject"),
        Feature("Plan", "category", "impute", categories=("basic", "plus")),
        Feature("Partner", "flag", "reject"),
        Feature("Score", "number", "impute"),
    ),
    labels=("legitimate", "fraud"),
    threshold=0.25,
    risk_levels=(RiskLevel("low", 0.0), RiskLevel("high", 0.25)),
    graph=Graph("X", "probabilities", 2, 1),
    metrics={"f1": Metric(0.9, 0.8, 0.95)},
    lineage=Lineage("fraud", "creditcard.csv", DIGEST, 1000, 7, {"numpy": "2.4"}, {"n_estimators": "256"}),
    files=dict.fromkeys(bundle.FILES, DIGEST),
)
SCHEMA = jsonschema.Draft202012Validator(
    json.loads((Path(model_bundle.__path__[0]) / "manifest.schema.json").read_bytes())
)
Document = dict[str, Any]


def document() -> Document:
    read: Document = json.loads(MANIFEST.to_bytes())
    return read


def test_what_is_written_is_read_again():
    assert Manifest.from_bytes(MANIFEST.to_bytes()) == MANIFEST
    assert Manifest.from_bytes(MANIFEST.to_bytes()).to_bytes() == MANIFEST.to_bytes()
    SCHEMA.validate(document())


@given(
    threshold=st.floats(0, 1, exclude_min=True),
    description=st.text(st.characters(exclude_categories=["Cs"])),
    bounds=st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=2, max_size=2).map(sorted),
    seed=st.integers(0, 2**32 - 1),
)
def test_any_figures_survive(threshold: float, description: str, bounds: list[float], seed: int):
    low, high = bounds
    manifest = replace(
        MANIFEST,
        threshold=threshold,
        description=description,
        features=(Feature("Amount", "number", "reject", "", low, high),),
        lineage=replace(MANIFEST.lineage, seed=seed),
    )
    assert Manifest.from_bytes(manifest.to_bytes()) == manifest
    SCHEMA.validate(json.loads(manifest.to_bytes()))


@pytest.mark.parametrize("number", [math.nan, math.inf])
def test_no_manifest_holds_what_is_no_number(number: float):
    with pytest.raises(ValueError, match="Out of range float values"):
        replace(MANIFEST, threshold=number).to_bytes()


def change(path: str, value: object) -> Callable[[Document], None]:
    def apply(changed: Document) -> None:
        *parents, last = path.split(".")
        node: Any = changed
        for parent in parents:
            node = node[int(parent) if parent.isdigit() else parent]
        if value is None:
            del node[int(last) if last.isdigit() else last]
        else:
            node[int(last) if last.isdigit() else last] = value

    return apply


BOTH = [
    ("schema_version", 2, "schema_version: 2 is not 1: export the bundle again"),
    ("threshold", None, "the document: lacks threshold"),
    ("extra", 1, "the document: unknown extra"),
    ("model", "Fraud", "model: 'Fraud' is not of the form"),
    ("model", "../fraud", "model: '../fraud' is not of the form"),
    ("version", "1.0", "version: '1.0' is not of the form"),
    ("version", "01.0.0", "version: '01.0.0' is not of the form"),
    ("task", "clustering", "task: 'clustering' is none of binary_classification, regression"),
    ("task", "regression", "the document: lacks interval"),
    ("interval", {}, "the document: unknown interval"),
    ("description", 3, "description: 3 is not text"),
    ("features", [], "features: is empty"),
    ("features", {}, "features: not a list"),
    ("features.0", "Amount", "features[0]: not an object"),
    ("features.0.type", "text", "features[0].type: 'text' is none of number, category, flag"),
    ("features.0.missing", "guess", "features[0].missing: 'guess' is none of reject, impute"),
    ("features.0.out_of_range", "clip", "features[0].out_of_range: 'clip' is none of"),
    ("features.0.minimum", None, "features[0]: minimum and maximum go together"),
    ("features.0.minimum", "0", "features[0].minimum: '0' is not a finite number"),
    ("features.1.categories", None, "features[1]: categories"),
    ("features.1.categories", ["a", "a"], "features[1]: categories"),
    ("features.0.categories", ["a"], "features[0]: categories"),
    ("labels", ["fraud", "fraud"], "labels: not two different labels"),
    ("labels", ["fraud"], "labels: not two different labels"),
    ("threshold", 0, "threshold: 0.0 is not above 0 and at most 1"),
    ("threshold", 1.5, "threshold: 1.5 is not above 0 and at most 1"),
    ("threshold", True, "threshold: True is not a finite number"),
    ("risk_levels", [], "risk_levels: the levels' minimums do not ascend from 0"),
    ("graph.columns", 0, "graph.columns: 0 is not a whole number of at least 1"),
    ("graph.column", 1.5, "graph.column: 1.5 is not a whole number"),
    ("metrics.f1.low", None, "metrics.f1: lacks low"),
    ("metrics.f1", 0.9, "metrics.f1: not an object"),
    ("lineage.data_digest", "sha256:0", "lineage.data_digest: 'sha256:0' is not of the form"),
    ("lineage.rows", -1, "lineage.rows: -1 is not a whole number"),
    ("lineage.libraries.numpy", 2, "lineage.libraries.numpy: 2 is not text"),
    ("files", {"../model.onnx": DIGEST}, "files.../model.onnx: '../model.onnx' is not of the form"),
    ("files", {".hidden": DIGEST}, "files..hidden: '.hidden' is not of the form"),
    ("files", {"model.onnx": "0a"}, "files.model.onnx: '0a' is not of the form"),
]  # fmt: skip
READER_ALONE = [
    ("features.1.name", "Amount", "features: Amount appears twice"),
    ("features.1.name", "score", "features: 'score' is what a model's own score is called"),
    ("features.0.minimum", 30, "features[0]: minimum 30.0 is above maximum 25.5"),
    ("features.2.minimum", 0, "features[2]: minimum and maximum go together"),
    ("risk_levels.0.minimum", 0.1, "risk_levels: the levels' minimums do not ascend from 0"),
    ("risk_levels.1.minimum", 0, "risk_levels: the levels' minimums do not ascend from 0"),
    ("graph.column", 2, "graph: column 2 is not one of 2"),
    ("threshold", math.nan, "threshold: nan is not a finite number"),
]


@pytest.mark.parametrize(("path", "value", "message"), [*BOTH, *READER_ALONE])
def test_refuses_and_names_the_place(path: str, value: object, message: str):
    changed = document()
    change(path, value)(changed)
    with pytest.raises(ManifestError) as caught:
        Manifest.from_bytes(json.dumps(changed).encode())
    assert message in str(caught.value)


@pytest.mark.parametrize(("path", "value", "message"), BOTH)
def test_the_schema_refuses_the_same(path: str, value: object, message: str):
    changed = document()
    change(path, value)(changed)
    assert not SCHEMA.is_valid(changed), message


@pytest.mark.parametrize("data", [b"", b"{", b"\xff", b"[]", b"1"])
def test_refuses_what_is_no_document(data: bytes):
    with pytest.raises(ManifestError):
        Manifest.from_bytes(data)


@given(
    st.binary(max_size=40)
    | st.recursive(st.none() | st.text(), st.lists).map(lambda value: json.dumps(value).encode())
)
def test_refuses_anything_else_by_name(data: bytes):
    with pytest.raises(ManifestError):
        Manifest.from_bytes(data)


def test_versions_sort_as_numbers():
    versions = ["1.10.0", "1.9.9", "0.1.0", "1.9.10"]
    assert sorted(versions, key=version_key) == ["0.1.0", "1.9.9", "1.9.10", "1.10.0"]
    for version in ("1", "1.0.0-rc1", "v1.0.0", "1.0.0 ", "1.0.00"):
        with pytest.raises(ManifestError, match="not of the form X"):
            version_key(version)


def test_names_of_models():
    assert check_name("card-fraud_2") == "card-fraud_2"
    for name in ("", "2fraud", "Fraud", "a/b", ".", "a" * 64):
        with pytest.raises(ManifestError):
            check_name(name)


REGRESSION = replace(
    MANIFEST,
    task="regression",
    labels=(),
    threshold=0.0,
    risk_levels=(),
    interval=Interval(0.9, "by hand", 0.0, (10.5, 20.25), (1.0, 2.0, 3.0), (0.0, 4.5, 6.0)),
)


def test_a_regression_is_written_without_what_a_classification_has():
    written = json.loads(REGRESSION.to_bytes())
    assert not {"labels", "threshold", "risk_levels"} & set(written)
    assert Manifest.from_bytes(REGRESSION.to_bytes()) == REGRESSION
    SCHEMA.validate(written)
    for interval in (
        replace(REGRESSION.interval, least=None),
        Interval(0.5, "", -1.5, (), (1.0,), (1.0,)),
    ):
        manifest = replace(REGRESSION, interval=interval)
        assert Manifest.from_bytes(manifest.to_bytes()) == manifest
        SCHEMA.validate(json.loads(manifest.to_bytes()))
    assert "interval" not in document()


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("interval", None, "the document: lacks interval"),
        ("labels", ["no", "yes"], "the document: unknown labels"),
        ("interval.coverage", 1, "interval.coverage: 1.0 is not above 0 and below 1"),
        ("interval.coverage", "0.9", "interval.coverage: '0.9' is not a finite number"),
        ("interval.method", 3, "interval.method: 3 is not text"),
        ("interval.least", "0", "interval.least: '0' is not a finite number"),
        ("interval.below", [1.0, 2.0, -3.0], "interval.below: not 3 numbers of at least 0"),
    ],
)
def test_schema_and_reader_refuse_a_wrong_interval(path: str, value: object, message: str):
    changed = json.loads(REGRESSION.to_bytes())
    change(path, value)(changed)
    with pytest.raises(ManifestError) as caught:
        Manifest.from_bytes(json.dumps(changed).encode())
    assert message in str(caught.value)
    with pytest.raises(jsonschema.ValidationError):
        SCHEMA.validate(changed)


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("interval.cuts", [20.25, 10.5], "interval.cuts: do not ascend"),
        ("interval.cuts", [10.5], "interval.below: not 2 numbers"),
        ("interval.above", [1.0], "interval.above: not 3 numbers of at least 0, one for each band"),
    ],
)
def test_the_reader_refuses_bands_that_do_not_fit(path: str, value: object, message: str):
    changed = json.loads(REGRESSION.to_bytes())
    change(path, value)(changed)
    with pytest.raises(ManifestError) as caught:
        Manifest.from_bytes(json.dumps(changed).encode())
    assert message in str(caught.value)
