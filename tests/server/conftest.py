"""What tests of the server's core share."""

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper

from model_bundle import bundle, digest, golden
from model_bundle.golden import GoldenRow
from model_bundle.manifest import Feature, Graph, Lineage, Manifest, Metric, RiskLevel
from server.call import Call

FEATURES = (
    Feature("amount", "number", "impute", "In euro.", minimum=0.0, maximum=100.0),
    Feature("age", "number", "reject", "In years.", minimum=18.0, maximum=99.0, out_of_range="reject"),
    Feature("country", "category", "impute", "Where.", categories=("de", "fr", "ελ")),
    Feature("member", "flag", "reject", "Whether a member."),
    Feature("balance", "number", "reject"),
)
# Powers of two: a score is exact in float32, and each feature has a part of its own in it.
_WEIGHTS = (2**-8, 2**-12, 2**-3, 2**-4, 2**-14)
_DEFAULTS = (32.0, 0.0, 2.0, 0.0, 0.0)
_THRESHOLD = 0.3


def _mixed_score(codes: tuple[float, ...]) -> float:
    """Return what the graph of `mixed_bundle` makes of a row's codes, NaN for a missing value."""
    values = [default if math.isnan(code) else code for code, default in zip(codes, _DEFAULTS, strict=True)]
    return sum(weight * value for weight, value in zip(_WEIGHTS, values, strict=True))


@pytest.fixture(scope="session")
def mixed_score() -> Callable[[tuple[float, ...]], float]:
    """Return the function that gives the score of a row's codes."""
    return _mixed_score


def _mixed_graph() -> bytes:
    nodes = [
        helper.make_node("IsNaN", ["X"], ["missing"]),
        helper.make_node("Where", ["missing", "defaults", "X"], ["values"]),
        helper.make_node("MatMul", ["values", "weights"], ["positive"]),
        helper.make_node("Sub", ["one", "positive"], ["negative"]),
        helper.make_node("Concat", ["negative", "positive"], ["scores"], axis=1),
    ]
    count = len(FEATURES)
    graph = helper.make_graph(
        nodes,
        "mixed",
        [helper.make_tensor_value_info("X", TensorProto.FLOAT, [None, count])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, [None, 2])],
        [
            helper.make_tensor("defaults", TensorProto.FLOAT, [count], _DEFAULTS),
            helper.make_tensor("weights", TensorProto.FLOAT, [count, 1], _WEIGHTS),
            helper.make_tensor("one", TensorProto.FLOAT, [1], [1.0]),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.checker.check_model(model)
    data: bytes = model.SerializeToString()
    return data


_MANIFEST = Manifest(
    model="mixed",
    version="1.0.0",
    task="binary_classification",
    description="Every type of feature and every rule.",
    features=FEATURES,
    labels=("no", "yes"),
    threshold=_THRESHOLD,
    risk_levels=(RiskLevel("low", 0.0), RiskLevel("high", 0.5)),
    graph=Graph(input="X", output="scores", columns=2, column=1),
    metrics={"f1": Metric(0.9, 0.8, 1.0), "roc_auc": Metric(0.95, 0.9, 0.99)},
    lineage=Lineage("mixed", "by hand", digest.of_bytes(b""), 3, 7, {"numpy": "2"}, {"n_estimators": "1"}),
    files={},
)


def _reference(features: tuple[Feature, ...]) -> bytes:
    def histogram(edges: list[float]) -> dict[str, object]:
        counts = [10] * (len(edges) + 1)
        return {"rows": sum(counts), "missing": 0, "edges": edges, "counts": counts}

    edges = {
        feature.name: [1.0]
        if feature.type == "number"
        else [float(code) for code in range(1, len(feature.categories) or 2)]
        for feature in features
    }
    document = {
        "schema_version": 1,
        "features": {name: histogram(found) for name, found in edges.items()},
        "score": histogram([0.25, 0.5, 0.75]),
    }
    return json.dumps(document).encode()


def _write(models: Path, **changes: object) -> Path:
    manifest = replace(_MANIFEST, **changes)  # type: ignore[arg-type]
    names = [feature.name for feature in manifest.features]
    rows = []
    for values, codes in (
        ((50.0, 40.0, "fr", True, 8.0), (50.0, 40.0, 1.0, 1.0, 8.0)),
        ((None, 18.0, None, False, 0.0), (math.nan, 18.0, math.nan, 0.0, 0.0)),
    ):
        score = _mixed_score(codes)
        label = manifest.labels[score >= manifest.threshold]
        rows.append(
            GoldenRow(
                "ordinary", dict(zip(names, values, strict=True)), {"probability": score, "label": label}
            )
        )
    files = {
        bundle.GRAPH: _mixed_graph(),
        bundle.GOLDEN: golden.to_bytes(rows),
        bundle.REFERENCE: _reference(manifest.features),
        bundle.MODEL_CARD: b"<html></html>",
    }
    folder = models / manifest.model / manifest.version
    folder.mkdir(parents=True)
    for name, data in files.items():
        (folder / name).write_bytes(data)
    digests = {name: digest.of_bytes(data) for name, data in files.items()}
    (folder / bundle.MANIFEST).write_bytes(replace(manifest, files=digests).to_bytes())
    return folder


@pytest.fixture(scope="session")
def write_mixed() -> Callable[..., Path]:
    """Return a function that writes the bundle `mixed` into a models folder, with changes of its manifest."""
    return _write


@pytest.fixture(scope="session")
def mixed_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a bundle with every type of feature, whose scores are known by hand. It is shared."""
    return _write(tmp_path_factory.mktemp("mixed"))


@pytest.fixture
def call() -> Call:
    """Return the context of a call that nobody waits for."""
    return Call(math.inf, (), lambda: "nobody")
