"""The audit log of the real server: what it has acknowledged is on record, however it ends."""

import hashlib
import json
import resource
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
from forest.v1.prediction_service_pb2 import (
    Matrix,
    PredictBatchRequest,
    PredictRequest,
    PredictStreamRequest,
    Vector,
)
from forest.v1.prediction_service_pb2_grpc import PredictionServiceStub
from inference import grpc_service_pb2, grpc_service_pb2_grpc

_KILLS = 4
_TOKEN = "0123456789abcdef0123456789abcdef"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "audit"


def _flags(folder: Path, mode: str, *more: str) -> list[str]:
    return ["--audit", mode, "--audit-folder", str(folder), *more]


def _read(folder: Path) -> list[dict[str, Any]]:
    return [
        json.loads(line) for path in sorted(folder.glob("*.jsonl")) for line in path.read_text().splitlines()
    ]


class _Callers:
    """Call with single rows and with batches until the server has gone, and keep what was answered."""

    def __init__(self, target: str, connect: Callable[..., Any], values: list[float], first: int):
        self.answered: dict[str, float] = {}
        self._count = first
        self._lock = threading.Lock()
        self._threads = [
            threading.Thread(target=self._call, args=(target, connect, values, place)) for place in range(4)
        ]
        for thread in self._threads:
            thread.start()

    def wait_for(self, answers: int) -> None:
        deadline = time.monotonic() + 30
        while len(self.answered) < answers:
            assert time.monotonic() < deadline
            time.sleep(0.001)

    def join(self) -> None:
        for thread in self._threads:
            thread.join()

    def _call(self, target: str, connect: Callable[..., Any], values: list[float], place: int) -> None:
        matrix = Matrix(rows=200, columns=len(values), data=200 * struct.pack("<30f", *values))
        with connect(target) as channel:
            stub = PredictionServiceStub(channel)
            try:
                while True:
                    with self._lock:
                        self._count += 1
                        request_id = str(self._count)
                    if place:
                        request = PredictRequest(
                            model="fraud", request_id=request_id, vector=Vector(values=values)
                        )
                        told = stub.Predict(request, timeout=10).classification.probability
                    else:
                        many = PredictBatchRequest(model="fraud", request_id=request_id, matrix=matrix)
                        told = stub.PredictBatch(many, timeout=10).classifications.probabilities[199]
                    self.answered[request_id] = told
            except grpc.RpcError:
                return


def test_kill_9_loses_nothing_that_strict_has_acknowledged(
    start_server: Callable[..., Any],
    fraud_bundle: Path,
    golden: list[Any],
    connect: Callable[..., Any],
    folder: Path,
) -> None:
    answered: dict[str, float] = {}
    for kill in range(_KILLS):
        server = start_server(
            fraud_bundle.parents[1], *_flags(folder, "strict", "--audit-rotate-bytes", "300000")
        )
        callers = _Callers(server.target, connect, golden[0].values, 1_000_000 * kill)
        callers.wait_for(40 + 13 * kill)
        server.process.send_signal(signal.SIGKILL)
        server.process.wait()
        callers.join()
        answered |= callers.answered
    # None, if it was killed between two files.
    assert len(list(folder.glob("*.jsonl.open"))) <= 1, "the next one closes it"
    server = start_server(fraud_bundle.parents[1], *_flags(folder, "strict"))
    assert not list(folder.glob("*.open"))
    assert server.stop() == 0
    assert not list(folder.glob("*.open"))
    records = _read(folder)
    told: dict[str, int] = {}
    probabilities: dict[str, float] = {}
    for each in records:
        told[each["request_id"]] = told.get(each["request_id"], 0) + 1
        probabilities[each["request_id"]] = each["outcome"]["probability"]
    assert [request_id for request_id in answered if request_id not in told] == []
    assert {request_id: probabilities[request_id] for request_id in answered} == answered
    assert {told[request_id] for request_id in answered} == {1, 200}, "none twice, all rows of a batch"
    assert (
        subprocess.run([sys.executable, "-m", "server.audit", "verify", folder], check=False).returncode == 0
    )


def test_every_way_in_is_on_record_with_its_caller(
    start_server: Callable[..., Any],
    four_models: Path,
    golden: list[Any],
    connect: Callable[..., Any],
    folder: Path,
) -> None:
    policy = folder.parent / "policy.toml"
    digest = hashlib.sha256(_TOKEN.encode()).hexdigest()
    policy.write_text(f'[callers.payments]\nmodels = ["*"]\ntokens = ["sha256:{digest}"]\n')
    server = start_server(
        four_models,
        *_flags(folder, "best-effort", "--audit-redact", "fraud.Amount,gender"),
        *("--access-policy", str(policy), "--plaintext-tokens", "on", "--workers", "2"),
    )
    metadata = [("authorization", "Bearer " + _TOKEN)]
    values = golden[0].values
    with connect(server.target) as channel:
        stub = PredictionServiceStub(channel)
        single = PredictRequest(model="fraud", request_id="single", vector=Vector(values=values))
        answer = stub.Predict(single, timeout=10, metadata=metadata)
        stream = PredictStreamRequest(model="fraud", request_id="stream", vector=Vector(values=values))
        list(stub.PredictStream(iter([stream]), timeout=10, metadata=metadata))
        data = struct.pack("<30f", *values)
        batch = PredictBatchRequest(
            model="fraud", request_id="batch", matrix=Matrix(rows=100, columns=30, data=100 * data)
        )
        stub.PredictBatch(batch, timeout=10, metadata=metadata)
        tensor = grpc_service_pb2.ModelInferRequest.InferInputTensor(
            name="matrix", datatype="FP32", shape=[1, 30]
        )
        tensor.contents.fp32_contents.extend(values)
        infer = grpc_service_pb2.ModelInferRequest(model_name="fraud", id="infer", inputs=[tensor])
        grpc_service_pb2_grpc.GRPCInferenceServiceStub(channel).ModelInfer(
            infer, timeout=10, metadata=metadata
        )
        # What is refused is no decision.
        single.vector.values.append(1)
        with pytest.raises(grpc.RpcError):
            stub.Predict(single, timeout=10, metadata=metadata)
    assert server.stop() == 0
    records = _read(folder)
    assert [each["request_id"] for each in records] == ["single", "stream", *100 * ["batch"], "infer"]
    assert {each["caller"] for each in records} == {"payments"}
    assert [each["row"] for each in records] == [None, None, *range(100), 0]
    for each in records:
        assert each["digest"] == answer.digest
        assert each["outcome"] == {
            "probability": answer.classification.probability,
            "label": answer.classification.label,
            "threshold": answer.classification.threshold,
            "risk_level": answer.classification.risk_level,
        }
        assert len(each["inputs"]) == 29
        assert "Amount" not in each["inputs"]
        assert 0 < each["latency"] < 10


def test_a_file_that_can_grow_no_more_fails_a_call_and_the_next_goes_on(
    start_server: Callable[..., Any],
    fraud_bundle: Path,
    golden: list[Any],
    connect: Callable[..., Any],
    folder: Path,
) -> None:
    server = start_server(fraud_bundle.parents[1], *_flags(folder, "strict"))
    resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, (40_000, 40_000))
    answered: list[str] = []
    refused: list[tuple[grpc.StatusCode, str]] = []
    with connect(server.target) as channel:
        stub = PredictionServiceStub(channel)
        for number in range(200):
            request = PredictRequest(
                model="fraud", request_id=str(number), vector=Vector(values=golden[0].values)
            )
            try:
                stub.Predict(request, timeout=10)
                answered.append(request.request_id)
            except grpc.RpcError as error:
                refused.append((error.code(), str(error.details())))
    assert server.stop() == 0
    assert 2 <= len(refused) <= 20
    assert {code for code, _ in refused} == {grpc.StatusCode.UNAVAILABLE}
    assert all("the audit log cannot be written (File too large)" in details for _, details in refused)
    assert [each["request_id"] for each in _read(folder)] == answered
    server.wait_for("the audit log cannot be written: File too large")
    server.wait_for("the audit log is written again")


def test_a_disk_that_hangs_holds_up_answers_by_strict_and_not_the_end(
    start_server: Callable[..., Any],
    fraud_bundle: Path,
    golden: list[Any],
    connect: Callable[..., Any],
    folder: Path,
) -> None:
    # What a real disk would do, to the one thing that asks it to be sure.
    (folder.parent / "sitecustomize.py").write_text(
        "import os, time\nos.fdatasync = lambda descriptor: time.sleep(3600)\n"
    )
    server = start_server(
        fraud_bundle.parents[1],
        *_flags(folder, "strict", "--stop-grace", "1"),
        environment={"PYTHONPATH": str(folder.parent)},
    )
    with connect(server.target) as channel:
        request = PredictRequest(model="fraud", vector=Vector(values=golden[0].values))
        with pytest.raises(grpc.RpcError) as caught:
            PredictionServiceStub(channel).Predict(request, timeout=1)
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert server.stop(seconds=30) == 1
    assert "no answer was sent whose record is not on it" in server.log[-1]


@pytest.mark.parametrize(
    ("flags", "complaint"),
    [
        (["--audit-folder", "{tmp}/none/audit"], "audit_folder {tmp}/none/audit: No such file or directory"),
        (["--audit-redact", "Amont,fraud.Time"], "audit_redact: no model here has a feature Amont"),
        (
            ["--audit-inputs", "hash", "--audit-key", "{tmp}/none"],
            "audit_key: cannot read {tmp}/none: No such file or directory",
        ),
        (["--port", "{port}"], "cannot listen on localhost:{port}: is something else listening there?"),
    ],
    ids=["folder", "redact", "key", "port"],
)
def test_what_cannot_be_stops_the_start(
    fraud_bundle: Path, folder: Path, tmp_path: Path, flags: list[str], complaint: str
) -> None:
    command = [sys.executable, "-m", "server", "--models", str(fraud_bundle.parents[1])]
    command += ["--port=0", "--health-port=0", *_flags(folder, "strict")]
    with socket.create_server(("localhost", 0)) as taken:
        names = {"tmp": tmp_path, "port": taken.getsockname()[1]}
        command += [flag.format(**names) for flag in flags]
        ran = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert ran.returncode == 1
    assert ran.stderr.splitlines()[-1] == "forest-serve: " + complaint.format(**names)
    assert not folder.exists() or not list(folder.iterdir())
