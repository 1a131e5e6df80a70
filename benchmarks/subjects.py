"""What a forest can be served with, each as a context that runs it and yields the subjects to be measured.

All have the same forest, and are asked for the same row; their answers are compared with the forest's own.
"""

import json
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from forest.v1.prediction_service_pb2 import (
    Matrix,
    PredictBatchRequest,
    PredictBatchResponse,
    PredictResponse,
    PredictStreamRequest,
    PredictStreamResponse,
)
from numpy.typing import NDArray

from benchmarks import cores, environments, load, rows, serving
from benchmarks.candidates import PATH
from benchmarks.environments import PEERS
from benchmarks.forest import Trained
from benchmarks.serving import Process, Subject

PREDICT = "forest-serve, Predict"
FASTAPI = "FastAPI + joblib"
MLSERVER = "MLServer, gRPC"
MLSERVER_HTTP = "MLServer, HTTP"
# Rows of a PredictBatch, and of a message of a PredictStream.
BATCHES = (1, 64, 1024, 8192)
MESSAGES = (1, 64)
# A row's probability is within this of the forest's own.
_TOLERANCE = 1e-6
_ID = "transaction-0001"
_BATCH_PATH = PATH + "Batch"
_STREAM_PATH = PATH + "Stream"
# Large batches are not sent 32 at once: connections, and calls on each.
_AT_ONCE = {1: (4, 8), 64: (4, 8), 1024: (4, 1), 8192: (2, 1)}
_MESSAGES_A_STREAM = {1: 256, 64: 32}


class Measured(Protocol):
    """What takes turns: a `Subject`, or ONNX Runtime in process."""

    name: str
    rows: int

    def measure(self) -> load.Run:
        """Return what it did in about `serving.SECONDS`."""


class Row:
    """The row that everybody is asked for: the first ordinary golden one of a bundle.

    Attributes
    ----------
    request : bytes
        As a PredictRequest.
    values : list of float
        By position.
    probability : float
        The trained forest's own.
    """

    def __init__(self, models: Path):
        folder = bundle_folder(models)
        encoder, golden = rows.usual(folder)
        self.values: list[float] = encoder.row.tolist()
        self.request = rows.request(folder, by_name=False).SerializeToString()
        self.probability = float(golden.outcome["probability"])


def bundle_folder(models: Path) -> Path:
    """Return the folder of the forest's bundle."""
    return max((models / "fraud").glob("[!.]*"))


def echo(threads: int) -> str:
    """Return the name of the bare echo."""
    return f"grpcio echo, {threads} thread{'s' * (threads > 1)}"


def in_process(count: int) -> str:
    """Return the name of ONNX Runtime in process."""
    return f"ONNX Runtime in process, {_rows(count)}"


def batch(count: int) -> str:
    """Return the name of PredictBatch."""
    return f"forest-serve, PredictBatch, {_rows(count)}"


def stream(count: int) -> str:
    """Return the name of PredictStream."""
    return f"forest-serve, PredictStream, {_rows(count)} a message"


def _rows(count: int) -> str:
    return f"{count} row{'s' * (count > 1)}"


@contextmanager
def run_echo(threads: int, models: Path) -> Iterator[list[Subject]]:
    """Run grpcio's own server, which answers each request with its own bytes."""
    command = serving.python(
        *("-m", "benchmarks.candidates", "echo", "threads", str(threads)),
        *("--models", str(models), "--port", "{port}"),
    )
    request = Row(models).request
    with Process(command) as process:
        process.ready(partial(serving.ask_grpc, process.target, PATH, request))
        yield [serving.grpc_subject(echo(threads), process.target, PATH, [request])]


def server_command(models: Path, metrics_port: str = "", module: str = "server") -> list[str]:
    """Return the command of the server as it is shipped, but for the age of connections and streams.

    Its metrics are on: by default, on any free port.

    h2load does not come back when it is asked to, which on a busy machine may be within a run.
    """
    return serving.python(
        *("-m", module, "--models", str(models), "--health-port", "0", "--port", "{port}"),
        *("--metrics-port", metrics_port or str(serving.free_port())),
        *("--max-connection-age", "600", "--max-connection-age-grace", "600", "--drain-timeout", "660"),
    )


def predict(process: Process, models: Path) -> Subject:
    """Return the subject of a server's Predict, whose answer has been checked."""
    row = Row(models)
    answer = process.ready(partial(serving.ask_grpc, process.target, PATH, row.request))
    _check(PREDICT, [PredictResponse.FromString(answer).classification.probability], [row.probability])
    return serving.grpc_subject(PREDICT, process.target, PATH, [row.request])


@contextmanager
def run_server(models: Path, trained: Trained | None = None) -> Iterator[list[Subject]]:
    """Run the server. Its batches and streams are measured as well if there are rows for them."""
    with Process(server_command(models)) as process:
        subjects = [predict(process, models)]
        if trained is not None:
            subjects += [_batch(process.target, count, trained) for count in BATCHES]
            subjects += [_stream(process.target, count, trained) for count in MESSAGES]
        yield subjects


def _batch(target: str, count: int, trained: Trained) -> Subject:
    request = PredictBatchRequest(
        model="fraud", matrix=matrix(trained.rows[:count]), request_id=_ID
    ).SerializeToString()
    answer = PredictBatchResponse.FromString(serving.ask_grpc(target, _BATCH_PATH, request))
    _check(batch(count), answer.classifications.probabilities, trained.probabilities[:count])
    connections, streams = _AT_ONCE[count]
    return serving.grpc_subject(
        batch(count), target, _BATCH_PATH, [request], rows=count, connections=connections, streams=streams
    )


def _stream(target: str, count: int, trained: Trained) -> Subject:
    """Return the subject of a stream of messages, of which h2load sends one after another."""
    sent = _MESSAGES_A_STREAM[count]
    requests = []
    for first in range(0, sent * count, count):
        request = PredictStreamRequest(model="fraud", request_id=f"{_ID}-{first:08}")
        if count == 1:
            request.vector.values.extend(trained.rows[first].tolist())
        else:
            request.matrix.CopyFrom(matrix(trained.rows[first : first + count]))
        requests.append(request.SerializeToString())
    answers = [
        PredictStreamResponse.FromString(answer)
        for answer in serving.ask_grpc_stream(target, _STREAM_PATH, requests)
    ]
    probabilities: list[float] = []
    for answer in answers:
        if count == 1:
            probabilities.append(answer.classification.probability)
        else:
            probabilities.extend(answer.classifications.probabilities)
    _check(stream(count), probabilities, trained.probabilities[: sent * count])
    return serving.grpc_subject(
        stream(count),
        target,
        _STREAM_PATH,
        requests,
        streamed=True,
        rows=sent * count,
    )


def matrix(values: NDArray[np.float32]) -> Matrix:
    """Return rows by position, as a message."""
    count, columns = values.shape
    return Matrix(rows=count, columns=columns, data=values.astype("<f4").tobytes())


@contextmanager
def run_fastapi(models: Path, pickle: Path) -> Iterator[list[Subject]]:
    """Run FastAPI and joblib, as commonly written."""
    program = environments.python("fastapi")
    row = Row(models)
    command = [str(program), str(PEERS / "fastapi" / "server.py"), str(pickle), "{port}"]
    body = json.dumps({"features": row.values}).encode()
    with Process(command) as process:
        url = f"http://{process.target}/predict"
        answer = json.loads(process.ready(partial(serving.ask_http, url, body)))
        _check(FASTAPI, [answer["probability"]], [row.probability])
        yield [serving.http_subject(FASTAPI, url, body)]


@contextmanager
def run_mlserver(models: Path, pickle: Path) -> Iterator[list[Subject]]:
    """Run MLServer with its scikit-learn runtime: its gRPC, and its HTTP."""
    program = environments.python("mlserver")
    row = Row(models)
    folder = pickle.parent / "mlserver"
    folder.mkdir()
    http, grpc_port = serving.free_port(), serving.free_port()
    settings = {
        "host": "127.0.0.1",
        "http_port": http,
        "grpc_port": grpc_port,
        "metrics_port": serving.free_port(),
        # In the server's own process: on one core a second one costs more than it gives.
        "parallel_workers": 0,
    }
    model = {
        "name": "forest",
        "implementation": "mlserver_sklearn.SKLearnModel",
        "parameters": {"uri": str(pickle)},
    }
    (folder / "settings.json").write_text(json.dumps(settings))
    (folder / "model-settings.json").write_text(json.dumps(model))
    # Only the probability is asked for, which costs half of what the label and the probability would.
    tensor = {"name": "row", "datatype": "FP32", "shape": [1, len(row.values)], "data": row.values}
    body = json.dumps({"id": _ID, "inputs": [tensor], "outputs": [{"name": "predict_proba"}]}).encode()
    with Process([str(program.with_name("mlserver")), "start", str(folder)], folder) as process:
        url = f"http://127.0.0.1:{http}/v2/models/forest/infer"
        answer = json.loads(process.ready(partial(serving.ask_http, url, body)))
        _check(MLSERVER_HTTP, answer["outputs"][0]["data"][1:], [row.probability])
        target, path = f"127.0.0.1:{grpc_port}", "/inference.GRPCInferenceService/ModelInfer"
        request = _message(program, "request", json.dumps(row.values).encode())
        response = process.ready(partial(serving.ask_grpc, target, path, request))
        _check(MLSERVER, json.loads(_message(program, "answer", response))[1:], [row.probability])
        yield [
            serving.grpc_subject(MLSERVER, target, path, [request]),
            serving.http_subject(MLSERVER_HTTP, url, body),
        ]


def _message(program: Path, which: str, data: bytes) -> bytes:
    command = [str(program), str(PEERS / "mlserver" / "message.py"), which]
    return subprocess.run(command, input=data, stdout=subprocess.PIPE, check=True, timeout=60).stdout


class _InProcess:
    """ONNX Runtime, asked for so many rows at once, one call after another."""

    def __init__(self, count: int, process: "subprocess.Popen[str]"):
        self.name = in_process(count)
        self.rows = count
        self._process = process

    def measure(self) -> load.Run:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{self.rows} {serving.SECONDS}\n")
        self._process.stdin.flush()
        taken = json.loads(self._process.stdout.readline())
        return load.Run.of(taken, len(taken) / sum(taken) * 1e3)


@contextmanager
def run_onnxruntime(models: Path, trained: Trained, folder: Path) -> Iterator[list[_InProcess]]:
    """Run ONNX Runtime without a server, by its Python interface."""
    matrix, scores = folder / "rows.npy", folder / "scores.npy"
    np.save(matrix, trained.rows)
    graph = bundle_folder(models) / "model.onnx"
    command = serving.python("-m", "benchmarks.in_process", str(graph), str(matrix), str(scores))
    process = subprocess.Popen(
        cores.pinned(cores.SERVER, command), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        subjects = [_InProcess(count, process) for count in BATCHES]
        for subject in subjects:
            subject.measure()
        _check("ONNX Runtime in process", np.load(scores).tolist(), trained.probabilities)
        yield subjects
    finally:
        process.kill()
        process.wait()


def _check(name: str, probabilities: Sequence[float], true: Any) -> None:
    """Raise `WrongAnswerError` unless these are the forest's own probabilities."""
    if len(probabilities) != len(true) or np.abs(np.asarray(probabilities) - true).max() > _TOLERANCE:
        raise load.WrongAnswerError(f"{name}: {list(probabilities[:3])}..., not {list(true[:3])}...")
