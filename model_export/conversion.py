"""From a trained forest to an ONNX graph: the same bytes for the same forest."""

from model_bundle.manifest import Graph
from model_export.training import Forest

NAMES = Graph(input="X", output="probabilities", columns=2, column=1)
_OPSET = 18


def convert(forest: Forest, name: str) -> bytes:
    """Return the graph: float32 ``(rows, features)`` in, float32 probabilities ``(rows, 2)`` out.

    It also answers a label, which nobody reads: the label is decided by the threshold, in the server.
    """
    from onnx.checker import check_model  # noqa: PLC0415
    from onnx.helper import make_opsetid  # noqa: PLC0415
    from skl2onnx import convert_sklearn  # noqa: PLC0415
    from skl2onnx.common.data_types import FloatTensorType  # noqa: PLC0415

    model = convert_sklearn(
        forest,
        initial_types=[(NAMES.input, FloatTensorType([None, forest.n_features_in_]))],
        options={id(forest): {"zipmap": False}},
        target_opset=_OPSET,
    )
    # skl2onnx draws the graph's name at random, and imports the default operators twice.
    model.graph.name = name
    versions = {operators.domain: operators.version for operators in model.opset_import}
    del model.opset_import[:]
    model.opset_import.extend(make_opsetid(*item) for item in sorted(versions.items()))
    check_model(model)
    graph: bytes = model.SerializeToString(deterministic=True)
    return graph
