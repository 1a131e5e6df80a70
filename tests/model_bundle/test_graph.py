"""A forest's graph made faster: the same bits, and nothing touched that is not understood."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

from model_bundle import bundle, golden
from model_bundle.encoding import Encoder
from model_bundle.graph import fastest, splits
from model_bundle.manifest import Graph

_CLASSIFIERS = ["fraud", "credit", "churn"]


def _rows(folder: Path) -> np.ndarray[Any, Any]:
    """Return the golden rows, which stand on split values and beside them, and rows of anything."""
    manifest, _ = bundle.read_manifest(folder)
    encoder = Encoder(manifest.features)
    rows = []
    for row in golden.from_bytes((folder / bundle.GOLDEN).read_bytes()):
        encoder.encode_record(row.record)
        rows.append(encoder.row.copy())
    random = np.random.default_rng(0)
    anything = random.normal(scale=10, size=(2_000, len(manifest.features))).astype(np.float32)
    anything[random.random(anything.shape) < 0.02] = np.nan
    anything[0], anything[1] = np.inf, -np.inf
    return np.concatenate([np.array(rows, np.float32), anything])


@pytest.mark.parametrize("name", _CLASSIFIERS)
def test_every_row_gets_the_bits_that_the_graph_as_written_gives(four_models: Path, name: str) -> None:
    folder = four_models / name / "1.0.0"
    data = (folder / bundle.GRAPH).read_bytes()
    names = bundle.read_manifest(folder)[0].graph
    faster, changed = fastest(data, names)
    assert faster != data
    assert changed == Graph(names.input, names.output, 1, 0)
    onnx.checker.check_model(onnx.load_from_string(faster))
    rows = _rows(folder)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1

    def scores(graph: bytes, column: int) -> np.ndarray[Any, Any]:
        session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
        result: np.ndarray[Any, Any] = session.run([names.output], {names.input: rows})[0][:, column]
        return result

    expected = scores(data, 1)
    assert len(np.unique(expected)) > 10
    assert scores(faster, 0).tobytes() == expected.tobytes()
    assert bundle.load(folder).session.score(rows).tobytes() == expected.tobytes()


def test_a_regression_is_left_as_it_is(four_models: Path) -> None:
    folder = four_models / "demand" / "1.0.0"
    data = (folder / bundle.GRAPH).read_bytes()
    names = bundle.read_manifest(folder)[0].graph
    assert fastest(data, names) == (data, names)


def _forest(model: onnx.ModelProto) -> onnx.NodeProto:
    (node,) = [node for node in model.graph.node if node.op_type == "TreeEnsembleClassifier"]
    return node


def _attribute(model: onnx.ModelProto, name: str) -> onnx.AttributeProto:
    (found,) = [each for each in _forest(model).attribute if each.name == name]
    return found


def _negative(model: onnx.ModelProto) -> None:
    _attribute(model, "class_weights").floats[0] = -0.5


def _for_the_other(model: onnx.ModelProto) -> None:
    _attribute(model, "class_ids").ints[0] = 1


def _transformed(model: onnx.ModelProto) -> None:
    _attribute(model, "post_transform").s = b"LOGISTIC"


def _with_a_base(model: onnx.ModelProto) -> None:
    _forest(model).attribute.append(onnx.helper.make_attribute("base_values", [0.5]))


def _of_three_labels(model: onnx.ModelProto) -> None:
    _attribute(model, "classlabels_int64s").ints.append(2)


def _of_another_domain(model: onnx.ModelProto) -> None:
    _forest(model).domain = "elsewhere"


def _two(model: onnx.ModelProto) -> None:
    model.graph.node.append(_forest(model))


@pytest.mark.parametrize(
    "change",
    [
        _negative,
        _for_the_other,
        _transformed,
        _with_a_base,
        _of_three_labels,
        _of_another_domain,
        _two,
    ],
)
def test_what_is_not_understood_is_left_as_it_is(
    fraud_bundle: Path, change: Callable[[onnx.ModelProto], None]
) -> None:
    names = Graph("X", "probabilities", 2, 1)
    model = onnx.load(fraud_bundle / bundle.GRAPH)
    assert fastest(model.SerializeToString(), names)[1] != names
    change(model)
    data = model.SerializeToString()
    assert fastest(data, names) == (data, names)


def test_another_column_or_output_and_what_is_no_graph_are_left_as_they_are(fraud_bundle: Path) -> None:
    data = (fraud_bundle / bundle.GRAPH).read_bytes()
    for names in (
        Graph("X", "probabilities", 2, 0),
        Graph("X", "probabilities", 3, 1),
        Graph("X", "label", 2, 1),
    ):
        assert fastest(data, names) == (data, names)
    for junk in (b"", b"no graph", data[:1000]):
        names = Graph("X", "probabilities", 2, 1)
        assert fastest(junk, names) == (junk, names)


@pytest.mark.parametrize("name", ["fraud", "churn", "demand"])
def test_the_main_splits_are_those_of_most_nodes(four_models: Path, name: str) -> None:
    data = (four_models / name / "1.0.0" / bundle.GRAPH).read_bytes()
    (forest,) = [node for node in onnx.load_from_string(data).graph.node if "TreeEnsemble" in node.op_type]
    lists = {each.name: onnx.helper.get_attribute_value(each) for each in forest.attribute}
    thresholds: dict[int, list[float]] = {}
    nodes = zip(lists["nodes_featureids"], lists["nodes_values"], lists["nodes_modes"], strict=True)
    for feature, threshold, mode in nodes:
        if mode != b"LEAF":
            thresholds.setdefault(feature, []).append(threshold)
    features, medians = splits(data, 5)
    counts = [len(thresholds[feature]) for feature in features]
    assert counts == sorted(map(len, thresholds.values()), reverse=True)[:5]
    assert medians.tolist() == [
        np.median(np.array(thresholds[feature], np.float32)) for feature in features.tolist()
    ]


def test_what_is_not_one_forest_has_no_main_splits(four_models: Path) -> None:
    model = onnx.load(four_models / "fraud" / "1.0.0" / bundle.GRAPH)
    model.graph.node.append(_forest(model))
    assert [found.size for found in splits(model.SerializeToString(), 5)] == [0, 0]
    del model.graph.node[:]
    assert [found.size for found in splits(model.SerializeToString(), 5)] == [0, 0]


@pytest.mark.parametrize("name", ["fraud", "credit", "churn", "demand"])
def test_many_rows_are_ordered_by_the_main_splits(four_models: Path, name: str) -> None:
    folder = four_models / name / "1.0.0"
    session = bundle.load(folder).session
    (feature, *_), (threshold, *_) = splits((folder / bundle.GRAPH).read_bytes(), 1)
    rows = _rows(folder)
    order = session.order(rows)
    assert order is not None
    assert sorted(order.tolist()) == list(range(len(rows)))
    sides = rows[order, feature] <= threshold
    assert 0 < sides.sum() < len(rows)
    assert np.count_nonzero(sides[1:] != sides[:-1]) == 1
    assert session.score(rows[order]).tobytes() == session.score(rows)[order].tobytes()
    assert session.order(rows[:64]) is None
