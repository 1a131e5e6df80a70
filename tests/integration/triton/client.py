"""A client of the Open Inference Protocol that is not ours: `python client.py TARGET < REQUEST > ANSWER`.

It is run by the Python of its own environment: one process cannot hold its messages and ours. The request is
a JSON list of calls, each with a function below and its arguments; the answer is the list of their results.
"""

import contextlib
import io
import json
import sys
import threading

import numpy as np
from tritonclient import grpc
from tritonclient.grpc import service_pb2
from tritonclient.utils import InferenceServerException

_KINDS = {"FP32": np.float32, "FP64": np.float64, "INT64": np.int64, "BOOL": np.bool_, "BYTES": np.object_}


def ready(client, model):
    return [client.is_server_live(), client.is_server_ready(), client.is_model_ready(model)]


def server_metadata(client):
    return client.get_server_metadata(as_json=True)


def model_metadata(client, model, version=""):
    return client.get_model_metadata(model, version, as_json=True)


def _inputs(tensors):
    inputs = []
    for name, datatype, elements in tensors:
        array = np.array(elements, _KINDS[datatype])
        inputs.append(grpc.InferInput(name, array.shape, datatype))
        inputs[-1].set_data_from_numpy(array)
    return inputs


def _raw(result):
    response = result.get_response()
    outputs = {output.name: result.as_numpy(output.name) for output in response.outputs}
    assert all(array.shape == tuple(result.get_output(name).shape) for name, array in outputs.items())
    return _told(response, outputs)


def _told(response, outputs):
    return {
        "model": [response.model_name, response.model_version, response.id],
        "raw": len(response.raw_output_contents),
        "digest": response.parameters["digest"].string_param,
        "threshold": response.parameters["threshold"].double_param,
        "outputs": {
            name: [element.decode() if isinstance(element, bytes) else float(element) for element in elements]
            for name, elements in outputs.items()
        },
    }


def infer(client, model, tensors, outputs=None, **options):
    if outputs is not None:
        outputs = [grpc.InferRequestedOutput(*output) for output in outputs]
    return _raw(client.infer(model, _inputs(tensors), outputs=outputs, **options))


def infer_from_another_thread(client, model, tensors):
    done = []
    arrived = threading.Event()

    def take(result, error):
        done.extend((result, error))
        arrived.set()

    client.async_infer(model, _inputs(tensors), take)
    assert arrived.wait(30)
    result, error = done
    if error:
        raise error
    return _raw(result)


def infer_typed(client, model, rows):
    """Call with contents in the fields of their datatypes. The client itself sends and reads raw ones."""
    request = service_pb2.ModelInferRequest(model_name=model, id="typed")
    tensor = request.inputs.add(name="matrix", datatype="FP32", shape=[len(rows), len(rows[0])])
    for row in rows:
        tensor.contents.fp32_contents.extend(row)
    response = client._client_stub.ModelInfer(request, timeout=30)
    fields = {"FP64": "fp64_contents", "BYTES": "bytes_contents"}
    outputs = {output.name: getattr(output.contents, fields[output.datatype]) for output in response.outputs}
    return _told(response, outputs)


def fields(_client):
    """Return what each field of the protocol's messages is: its number, label and type."""

    def of(message):
        found = {
            f"{message.full_name}.{field.name}": [
                field.number,
                field.is_repeated,
                field.type,
                field.message_type.full_name if field.message_type else "",
                field.containing_oneof.name if field.containing_oneof else "",
            ]
            for field in message.fields
        }
        for nested in message.nested_types:
            found |= of(nested)
        return found

    found = {}
    for message in service_pb2.DESCRIPTOR.message_types_by_name.values():
        found |= of(message)
    return found


def methods(_client):
    service = service_pb2.DESCRIPTOR.services_by_name["GRPCInferenceService"]
    return {
        method.name: [method.input_type.full_name, method.output_type.full_name] for method in service.methods
    }


def run(_client, target, code):
    """Run the examples of the documentation."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(code.replace("localhost:50051", target), {})
    return printed.getvalue().splitlines()


def main(target):
    answers = []
    with grpc.InferenceServerClient(target) as client:
        for name, arguments, options in json.load(sys.stdin):
            try:
                answers.append(globals()[name](client, *arguments, **options))
            except InferenceServerException as error:
                answers.append({"status": error.status(), "message": error.message()})
    json.dump(answers, sys.stdout)


if __name__ == "__main__":
    main(sys.argv[1])
