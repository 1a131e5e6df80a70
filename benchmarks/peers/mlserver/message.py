"""MLServer's own messages, read and written where its stubs are: `python message.py request|answer`.

`request` reads a row as JSON and writes a serialised ModelInferRequest; `answer` reads a serialised
ModelInferResponse and writes its first output as JSON.
"""

import json
import sys

from mlserver.grpc.dataplane_pb2 import ModelInferRequest, ModelInferResponse


def _request(row: list[float]) -> bytes:
    tensor = ModelInferRequest.InferInputTensor(name="row", datatype="FP32", shape=[1, len(row)])
    tensor.contents.fp32_contents.extend(row)
    return ModelInferRequest(
        model_name="forest",
        id="transaction-0001",
        inputs=[tensor],
        outputs=[ModelInferRequest.InferRequestedOutputTensor(name="predict_proba")],
    ).SerializeToString()


def _answer(data: bytes) -> list[float]:
    return list(ModelInferResponse.FromString(data).outputs[0].contents.fp64_contents)


if __name__ == "__main__":
    if sys.argv[1] == "request":
        sys.stdout.buffer.write(_request(json.load(sys.stdin)))
    else:
        json.dump(_answer(sys.stdin.buffer.read()), sys.stdout)
