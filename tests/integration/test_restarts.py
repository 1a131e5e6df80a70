"""The promise: servers are restarted one after the other under load, and not one call fails.

Every call is accounted for, and no retry policy hides a failure. What gRPC does for every client by itself
is left on: a call that had not left the client when its connection was asked to end goes to another.
"""

import json
import shutil
import signal
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
from forest.v1.prediction_service_pb2 import PredictRequest, Vector
from forest.v1.prediction_service_pb2_grpc import PredictionServiceStub

_ROUND_ROBIN = {"loadBalancingConfig": [{"round_robin": {}}]}
_HEALTH = {"healthCheckConfig": {"serviceName": ""}}
_RETRY = {
    "methodConfig": [
        {
            "name": [{"service": "forest.v1.PredictionService"}],
            "retryPolicy": {
                "maxAttempts": 4,
                "initialBackoff": "0.05s",
                "maxBackoff": "0.5s",
                "backoffMultiplier": 2,
                "retryableStatusCodes": ["UNAVAILABLE"],
            },
        }
    ]
}
_OWN_ACCORD = ("grpc.enable_retries", 1)
_LIFE = ("--max-connection-age", "1", "--max-connection-age-grace", "2", "--drain-timeout", "2.5")


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
    return port


class Load:
    """Calls without a pause from several threads, and counts the answers of each server."""

    def __init__(self, channel: grpc.Channel, rows: list[Any], threads: int = 3):
        self._predict = PredictionServiceStub(channel).Predict
        self._rows = rows
        self._done = threading.Event()
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._call, args=(i,)) for i in range(threads)]
        self.started = 0
        self.answers: Counter[str] = Counter()
        self.failures: list[str] = []

    def __enter__(self) -> "Load":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        for thread in self._threads:
            thread.join()

    def wait_for(self, more: int, *digests: str) -> None:
        """Wait until each of the servers has given so many answers more."""
        before = self.answers.copy()
        deadline = time.monotonic() + 30
        while any(self.answers[digest] < before[digest] + more for digest in digests):
            assert time.monotonic() < deadline, (before, self.answers, self.failures[:3])
            time.sleep(0.01)

    def _call(self, number: int) -> None:
        while not self._done.is_set():
            row = self._rows[number % len(self._rows)]
            request = PredictRequest(model="fraud", vector=Vector(values=row.values), request_id=str(number))
            number += 1
            with self._lock:
                self.started += 1
            try:
                answer = self._predict(request, timeout=20)
            except grpc.RpcError as error:
                self._fail(f"{error.code()}: {error.details()}")
                continue
            classification = answer.classification
            right = classification.label == row.label
            right &= abs(classification.probability - row.probability) <= 1e-6
            right &= answer.request_id == request.request_id
            if right:
                with self._lock:
                    self.answers[answer.digest] += 1
            else:
                self._fail(f"wrong answer: {answer}")

    def _fail(self, failure: str) -> None:
        with self._lock:
            self.failures.append(failure)


@pytest.fixture
def pair(fraud_bundle: Path, tmp_path: Path) -> list[Path]:
    """Return two models folders with the same forest, and digests that tell which one has answered."""
    folders = []
    for name in ("a", "b"):
        folder = tmp_path / name / "fraud" / "1.0.0"
        shutil.copytree(fraud_bundle, folder)
        manifest = json.loads((folder / "manifest.json").read_bytes())
        manifest["description"] = f"server {name}"
        (folder / "manifest.json").write_text(json.dumps(manifest))
        folders.append(tmp_path / name)
    return folders


def _restart_under_load(  # noqa: PLR0917 - each once
    start_server: Callable[..., Any],
    connect: Callable[..., Any],
    pair: list[Path],
    golden: list[Any],
    options: tuple[tuple[str, Any], ...],
    restarts: int,
) -> tuple[Load, list[str]]:
    ports = [_free_port(), _free_port()]

    def start(index: int) -> Any:
        return start_server(
            pair[index], "--host", "127.0.0.1", "--port", str(ports[index]), "--health-port", "0", *_LIFE
        )

    servers = [start(index) for index in range(2)]
    digests = [process.wait_for(r"loaded fraud 1\.0\.0 (sha256:\w+)") for process in servers]
    options = (("grpc.initial_reconnect_backoff_ms", 100), ("grpc.max_reconnect_backoff_ms", 300), *options)
    target = "ipv4:" + ",".join(f"127.0.0.1:{port}" for port in ports)
    with connect(target, *options) as channel, Load(channel, golden) as load:
        load.wait_for(50, *digests)
        for number in range(restarts):
            index = number % 2
            process = servers[index]
            process.process.send_signal(signal.SIGTERM)
            assert process.process.wait(30) == 0
            servers[index] = start(index)
            servers[index].wait_for(" SERVING on port")
            load.wait_for(50, *digests)
    for process in servers:
        assert process.stop() == 0
        assert "Traceback" not in "".join(process.log)
    assert load.started == sum(load.answers.values()) + len(load.failures)
    assert set(load.answers) == set(digests)
    return load, digests


def test_restarts_under_load_lose_no_call_of_a_client_that_checks_health(
    start_server: Callable[..., Any], connect: Callable[..., Any], pair: list[Path], golden: list[Any]
) -> None:
    config = json.dumps(_ROUND_ROBIN | _HEALTH)
    options = (("grpc.service_config", config), _OWN_ACCORD)
    load, _ = _restart_under_load(start_server, connect, pair, golden, options, restarts=6)
    assert load.failures == []
    assert load.started > 1_000


def test_restarts_under_load_refuse_no_call_of_a_client_that_retries(
    start_server: Callable[..., Any], connect: Callable[..., Any], pair: list[Path], golden: list[Any]
) -> None:
    # It does not check health, and so comes back to a server that drains, until that refuses it.
    config = json.dumps(_ROUND_ROBIN | _RETRY)
    options = (("grpc.service_config", config), _OWN_ACCORD)
    load, _ = _restart_under_load(start_server, connect, pair, golden, options, restarts=2)
    # Who comes back to a server that is about to stop may have a call there in the instant in which the C
    # core shuts down. That call is CANCELLED, which nobody retries: one of each thread at most.
    assert set(load.failures) <= {"StatusCode.CANCELLED: CANCELLED"}
    assert len(load.failures) <= 3 * 2


def test_connections_that_age_lose_no_call(
    start_server: Callable[..., Any], connect: Callable[..., Any], fraud_bundle: Path, golden: list[Any]
) -> None:
    process = start_server(fraud_bundle.parents[1], "--max-connection-age", "0.3", "--drain-timeout", "1")
    options = (("grpc.service_config", json.dumps(_ROUND_ROBIN)), _OWN_ACCORD)
    with connect(process.target, *options) as channel, Load(channel, golden) as load:
        time.sleep(4)
    assert load.failures == []
    assert sum(load.answers.values()) == load.started > 500
