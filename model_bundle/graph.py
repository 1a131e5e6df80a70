"""A forest's graph as ONNX Runtime runs it fastest: with the same bits out.

skl2onnx writes a binary forest as a TreeEnsembleClassifier, which keeps a list of scores for each row, makes
two probabilities of it, and finds a label that nobody reads. All its leaves speak of the positive label, so a
TreeEnsembleRegressor with one target adds up the very same numbers in the same order, in a tenth less time.

Of ONNX' messages only what is read or changed is declared here; all the rest passes through unread.
"""

from typing import Any

import numpy as np
from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import DecodeError
from google.protobuf.message_factory import GetMessageClass
from numpy.typing import NDArray

from model_bundle.manifest import Graph

_DOMAIN = "ai.onnx.ml"
_INT = 2
# What tells how a leaf votes, in the one operator and in the other.
_RENAMED = {
    "class_ids": "target_ids",
    "class_nodeids": "target_nodeids",
    "class_treeids": "target_treeids",
    "class_weights": "target_weights",
}
_SPLITS = {"nodes_featureids", "nodes_modes", "nodes_values"}
_DROPPED = ("classlabels_int64s", "classlabels_strings")

_ONE, _MANY = FieldDescriptorProto.LABEL_OPTIONAL, FieldDescriptorProto.LABEL_REPEATED
_STRING, _BYTES = FieldDescriptorProto.TYPE_STRING, FieldDescriptorProto.TYPE_BYTES
_INT64, _FLOAT = FieldDescriptorProto.TYPE_INT64, FieldDescriptorProto.TYPE_FLOAT
# Each message's fields: name, number, label, and type or name of the message.
_MESSAGES: dict[str, list[tuple[str, int, Any, Any]]] = {
    "Dimension": [("dim_value", 1, _ONE, _INT64)],
    "Shape": [("dim", 1, _MANY, "Dimension")],
    "Tensor": [("shape", 2, _ONE, "Shape")],
    "Type": [("tensor_type", 1, _ONE, "Tensor")],
    "ValueInfo": [("name", 1, _ONE, _STRING), ("type", 2, _ONE, "Type")],
    "Attribute": [
        ("name", 1, _ONE, _STRING),
        ("i", 3, _ONE, _INT64),
        ("s", 4, _ONE, _BYTES),
        ("floats", 7, _MANY, _FLOAT),
        ("ints", 8, _MANY, _INT64),
        ("strings", 9, _MANY, _BYTES),
        ("type", 20, _ONE, _INT64),
    ],
    "Node": [
        ("output", 2, _MANY, _STRING),
        ("op_type", 4, _ONE, _STRING),
        ("attribute", 5, _MANY, "Attribute"),
        ("domain", 7, _ONE, _STRING),
    ],
    "Graph": [("node", 1, _MANY, "Node"), ("output", 12, _MANY, "ValueInfo")],
    "Model": [("graph", 7, _ONE, "Graph")],
}


def fastest(graph: bytes, names: Graph) -> tuple[bytes, Graph]:
    """Return a graph that gives the same scores in less time, and how to run it; or the very same.

    Parameters
    ----------
    graph
        The serialised ONNX model.
    names
        Its input and output, and which column is the score.
    """
    try:
        model = _Model.FromString(graph)
    except DecodeError:
        # ONNX Runtime says what is wrong with it.
        return graph, names
    forests = _forests(model)
    if len(forests) != 1 or (names.columns, names.column) != (2, 1):
        return graph, names
    (forest,) = forests
    attributes = {attribute.name: attribute for attribute in forest.attribute}
    outputs = [output for output in model.graph.output if output.name == names.output]
    if not (
        _is_binary(forest, attributes) and len(outputs) == 1 and list(forest.output)[1:] == [names.output]
    ):
        return graph, names
    for name in _DROPPED:
        if name in attributes:
            forest.attribute.remove(attributes[name])
    for attribute in forest.attribute:
        attribute.name = _RENAMED.get(attribute.name, attribute.name)
    forest.attribute.add(name="n_targets", i=1, type=_INT)
    forest.op_type = "TreeEnsembleRegressor"
    forest.output[:] = [names.output]
    kept = outputs[0].SerializeToString()
    del model.graph.output[:]
    model.graph.output.add().ParseFromString(kept)
    for columns in model.graph.output[0].type.tensor_type.shape.dim[1:]:
        columns.dim_value = 1
    return model.SerializeToString(), Graph(names.input, names.output, columns=1, column=0)


def splits(graph: bytes, most: int) -> tuple[NDArray[np.intp], NDArray[np.float32]]:
    """Return the features that a forest splits on most often, those first, and the median threshold of each.

    Parameters
    ----------
    graph
        The serialised ONNX model.
    most
        How many features are returned at most: none if the graph is not just one forest.

    Returns
    -------
    ndarray of intp, shape (features,)
    ndarray of float32, shape (features,)
    """
    forests = _forests(_Model.FromString(graph))
    attributes = {each.name: each for each in forests[0].attribute} if len(forests) == 1 else {}
    if not attributes.keys() >= _SPLITS:
        return np.empty(0, np.intp), np.empty(0, np.float32)
    inner = np.array([mode != b"LEAF" for mode in attributes["nodes_modes"].strings], np.bool_)
    split_on = np.array(attributes["nodes_featureids"].ints, np.intp)[inner]
    thresholds = np.array(attributes["nodes_values"].floats, np.float32)[inner]
    counts = np.bincount(split_on)
    features = np.argsort(-counts, kind="stable")[: min(most, np.count_nonzero(counts))]
    return features, np.array([np.median(thresholds[split_on == each]) for each in features], np.float32)


def _forests(model: Any) -> list[Any]:
    return [node for node in model.graph.node if node.op_type.startswith("TreeEnsemble")]


def _is_binary(forest: Any, attributes: dict[str, Any]) -> bool:
    """Return whether all leaves of a forest vote for one of two labels, and by no less than nothing."""
    if (forest.op_type, forest.domain) != ("TreeEnsembleClassifier", _DOMAIN):
        return False
    if not attributes.keys() >= _RENAMED.keys() or any(name.startswith("base_values") for name in attributes):
        return False
    labels = sum(
        len(attributes[name].ints) + len(attributes[name].strings) for name in _DROPPED if name in attributes
    )
    transform = attributes["post_transform"].s if "post_transform" in attributes else b"NONE"
    return (
        labels == 2
        and transform == b"NONE"
        and set(attributes["class_ids"].ints) == {0}
        and min(attributes["class_weights"].floats, default=-1.0) >= 0
    )


def _model() -> Any:
    """Return the class of ModelProto, as far as it is declared here."""
    file = FileDescriptorProto(name="forest/onnx_part.proto", package="forest.onnx_part", syntax="proto2")
    for name, fields in _MESSAGES.items():
        message = file.message_type.add(name=name)
        for field, number, label, kind in fields:
            added = message.field.add(name=field, number=number, label=label)
            if isinstance(kind, str):
                added.type = FieldDescriptorProto.TYPE_MESSAGE
                added.type_name = f".forest.onnx_part.{kind}"
            else:
                added.type = kind
    # A pool of its own: nobody else is to know of these messages.
    pool = DescriptorPool()
    pool.Add(file)
    return GetMessageClass(pool.FindMessageTypeByName("forest.onnx_part.Model"))


_Model = _model()
