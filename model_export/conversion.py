"""From a trained model to an ONNX graph: the same bytes for the same model."""

from typing import Any

import numpy as np

from model_bundle.manifest import Graph
from model_export.training import Trained

CLASSIFICATION = Graph(input="X", output="probabilities", columns=2, column=1)
REGRESSION = Graph(input="X", output="variable", columns=1, column=0)
_OPSET = 18
_FILLED = "filled"


def names(trained: Trained) -> Graph:
    """Return how to run the graph."""
    return CLASSIFICATION if trained.classifies else REGRESSION


def convert(trained: Trained, name: str) -> bytes:
    """Return the graph: float32 ``(rows, features)`` in, float32 probabilities ``(rows, 2)`` or values out.

    Where a feature may be missing, a node before the forest puts in what stands for NaN: skl2onnx would send
    it to the right at every split (sklearn-onnx#1253). A classification also answers a label, which nobody
    reads: the label is decided by the threshold, in the server.
    """
    from onnx.checker import check_model  # noqa: PLC0415
    from onnx.helper import make_opsetid  # noqa: PLC0415
    from skl2onnx import convert_sklearn  # noqa: PLC0415
    from skl2onnx.common.data_types import FloatTensorType  # noqa: PLC0415

    forest = trained.forest
    model = convert_sklearn(
        forest,
        initial_types=[(CLASSIFICATION.input, FloatTensorType([None, forest.n_features_in_]))],
        options={id(forest): {"zipmap": False}} if trained.classifies else None,
        target_opset=_OPSET,
    )
    # skl2onnx draws the graph's name at random, and imports the default operators twice.
    model.graph.name = name
    versions = {operators.domain: operators.version for operators in model.opset_import}
    del model.opset_import[:]
    model.opset_import.extend(make_opsetid(*item) for item in sorted(versions.items()))
    if not np.isnan(trained.imputed).all():
        _impute(model, trained)
    check_model(model)
    graph: bytes = model.SerializeToString(deterministic=True)
    return graph


def _impute(model: Any, trained: Trained) -> None:
    """Put a node before the forest that puts in what stands for each feature's missing value."""
    from onnx.helper import make_node  # noqa: PLC0415

    for node in model.graph.node:
        node.input[:] = [_FILLED if item == CLASSIFICATION.input else item for item in node.input]
    imputer = make_node(
        "Imputer",
        [CLASSIFICATION.input],
        [_FILLED],
        domain="ai.onnx.ml",
        imputed_value_floats=trained.imputed.tolist(),
        replaced_value_float=float("nan"),
    )
    model.graph.node.insert(0, imputer)
