"""Servers that were tried for the unary path: `python -m benchmarks.candidates HANDLER FRONT COUNT ...`.

All score with the server's own core, unless their name says otherwise; none has its life, its health or its
checks of bundles. The server itself is measured as it is shipped, by `python -m server`.
"""

import argparse
import asyncio
import struct
from collections.abc import Callable
from concurrent import futures
from pathlib import Path
from threading import Event
from typing import Any

import grpc
import numpy as np
from forest.v1.prediction_service_pb2 import Classification, PredictRequest, PredictResponse

import model_bundle.runtime  # noqa: F401 - turns telemetry off before onnxruntime is imported
from model_bundle.decision import Decision
from server import grpcio_front
from server.call import Call, Unary
from server.grpcio_front import GrpcioFront
from server.models import Models
from server.prediction_service import PredictionService

PATH = "/forest.v1.PredictionService/Predict"
_NEVER = float("inf")


def _echo(request: bytes, _call: Call) -> bytes:
    return request


def _core(models: Path) -> Callable[[bytes, Call], bytes]:
    """Return the server's own way of a call: message objects, and the interpreter's lock kept for one row."""
    return PredictionService(_load(models)).predict


def _naive(models: Path) -> Callable[[bytes, Call], bytes]:
    """Return what is commonly written: no validation, and onnxruntime's Python interface."""
    import onnxruntime  # noqa: PLC0415

    manifest = _load(models).find("fraud", "").manifest
    assert manifest is not None
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    graph = models / "fraud" / manifest.version / "model.onnx"
    session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])

    def predict(data: bytes, _call: Call) -> bytes:
        request = PredictRequest.FromString(data)
        matrix = np.array([request.vector.values], np.float32)
        probability = float(session.run(["probabilities"], {"X": matrix})[0][0, 1])
        return PredictResponse(
            request_id=request.request_id,
            classification=Classification(probability=probability, threshold=manifest.threshold),
        ).SerializeToString()

    return predict


def _raw(models: Path) -> Callable[[bytes, Call], bytes]:
    """Return the core's way for a vector, requests read and responses written without message objects."""
    found = _load(models)
    pack_double = struct.Struct("<d").pack

    def predict(data: bytes, call: Call) -> bytes:
        name = version = request_id = b""
        values: tuple[float, ...] = ()
        place = 0
        while place < len(data):
            tag, length, place = data[place], data[place + 1], place + 2
            if length > 127:
                length, place = length - 128 + (data[place] << 7), place + 1
            part, place = data[place : place + length], place + length
            if tag == 0x0A:
                name = part
            elif tag == 0x12:
                version = part
            elif tag == 0x22:
                # A Vector with one packed field.
                packed = part[2:] if len(part) < 130 else part[3:]
                values = struct.unpack(f"<{len(packed) // 4}f", packed)
            elif tag == 0x2A:
                request_id = part
        model = found.find(name.decode(), version.decode())
        bundle = model.bundle
        assert bundle is not None
        assert not call.expired()
        with model.lock:
            bundle.encoder.encode_vector(values)
            probability = bundle.session.score_row()
        decision = bundle.decision
        assert isinstance(decision, Decision)
        label, level = decision.label(probability).encode(), decision.risk_level(probability).encode()
        outcome = (
            b"\x0a" + bytes([len(label)]) + label + b"\x11" + pack_double(probability)
            + b"\x19" + pack_double(decision.threshold) + b"\x22" + bytes([len(level)]) + level
        )  # fmt: skip
        digest = model.digest.encode()
        return (
            b"\x0a" + bytes([len(request_id)]) + request_id + b"\x12" + bytes([len(name)]) + name
            + b"\x1a" + bytes([len(model.version)]) + model.version.encode()
            + b"\x22" + bytes([len(digest)]) + digest + b"\x2a" + bytes([len(outcome)]) + outcome
        )  # fmt: skip

    return predict


def _load(models: Path) -> Models:
    found = Models(models)
    found.load()
    return found


def _serve_threads(handle: Callable[[bytes, Call], bytes], address: str, threads: int) -> None:
    call = Call(_NEVER, (), str)
    server = grpc.server(futures.ThreadPoolExecutor(threads))

    def answer(request: bytes, _context: object) -> bytes:
        return handle(request, call)

    handler: Any = grpc.unary_unary_rpc_method_handler(answer)
    service, _, method = PATH.removeprefix("/").partition("/")
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, {method: handler}),))
    server.add_insecure_port(address)
    server.start()
    server.wait_for_termination()


def _serve_asyncio(handle: Callable[[bytes, Call], bytes], address: str) -> None:
    call = Call(_NEVER, (), str)

    async def answer(request: bytes, _context: object) -> bytes:
        return handle(request, call)

    async def serve() -> None:
        server = grpc.aio.server()
        service, _, method = PATH.removeprefix("/").partition("/")
        handler: Any = grpc.unary_unary_rpc_method_handler(answer)
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, {method: handler}),))
        server.add_insecure_port(address)
        await server.start()
        await server.wait_for_termination()

    asyncio.run(serve())


def _serve_queue(handle: Callable[[bytes, Call], bytes], address: str, burst: int) -> None:
    grpcio_front._BURST = burst
    front = GrpcioFront("front", {PATH: Unary(handle)}, address)
    front.start()
    Event().wait()


def main() -> None:
    """Serve by one candidate until killed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("handler", choices=["echo", "core", "naive", "raw"])
    parser.add_argument("front", choices=["threads", "asyncio", "queue"])
    parser.add_argument("count", type=int, help="threads of the pool, or largest burst of the queue")
    parser.add_argument("--models", type=Path, required=True)
    parser.add_argument("--port", type=int, required=True)
    arguments = parser.parse_args()
    handlers = {"core": _core, "naive": _naive, "raw": _raw}
    handle = _echo if arguments.handler == "echo" else handlers[arguments.handler](arguments.models)
    address = f"localhost:{arguments.port}"
    match arguments.front:
        case "threads":
            _serve_threads(handle, address, arguments.count)
        case "asyncio":
            _serve_asyncio(handle, address)
        case "queue":
            _serve_queue(handle, address, arguments.count)


if __name__ == "__main__":
    main()
