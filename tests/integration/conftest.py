"""What tests of the real server share."""

import json
import shutil
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest
from forest.v1.prediction_service_pb2 import PredictRequest, Vector
from forest.v1.prediction_service_pb2_grpc import PredictionServiceStub
from grpc_health.v1 import health_pb2, health_pb2_grpc


@dataclass(frozen=True)
class Golden:
    """A row, and what the trained forest made of it."""

    values: list[float]
    probability: float
    label: str


@pytest.fixture(scope="session")
def names(fraud_bundle: Path) -> list[str]:
    """Return the fraud model's features, in order."""
    manifest = json.loads((fraud_bundle / "manifest.json").read_bytes())
    return [feature["name"] for feature in manifest["features"]]


@pytest.fixture(scope="session")
def golden(fraud_bundle: Path) -> list[Golden]:
    """Return the bundle's golden rows."""
    rows = [json.loads(line) for line in (fraud_bundle / "golden.jsonl").read_text().splitlines()]
    return [Golden(list(row["record"].values()), row["probability"], row["label"]) for row in rows]


@pytest.fixture
def metrics_port() -> int:
    """Return a port that is free, for metrics: 0 would be none at all."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
    return port


@contextmanager
def _connect(target: str, *options: tuple[str, object]) -> Iterator[grpc.Channel]:
    # A pool of its own: a connection of its own. Retries would hide what is to be seen.
    own = {"grpc.use_local_subchannel_pool": 1, "grpc.enable_retries": 0}
    with grpc.insecure_channel(target, list((own | dict(options)).items())) as channel:
        yield channel


@pytest.fixture(scope="session")
def connect() -> Callable[..., AbstractContextManager[grpc.Channel]]:
    """Return a function that opens a channel with a connection of its own, and without retries."""
    return _connect


@pytest.fixture(scope="session")
def health_of() -> Callable[[str], dict[str, str]]:
    """Return a function that asks a port for the state of every health service."""

    def ask(target: str) -> dict[str, str]:
        with _connect(target) as channel:
            listed = health_pb2_grpc.HealthStub(channel).List(health_pb2.HealthListRequest(), timeout=10)
        status = health_pb2.HealthCheckResponse.ServingStatus
        return {name: status.Name(response.status) for name, response in listed.statuses.items()}

    return ask


def pytest_addoption(parser: pytest.Parser) -> None:
    """Let the promise of test_restarts.py be kept more often than there is time for each day."""
    parser.addoption("--restarts", type=int, default=6, help="so many restarts under load; default: 6")


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


@pytest.fixture(scope="session")
def call_without_pause() -> Callable[..., Load]:
    """Return what calls a channel from several threads as long as the ``with`` block lasts."""
    return Load


@pytest.fixture
def copied(fraud_bundle: Path, tmp_path: Path) -> Path:
    """Return a copy of the fraud bundle, in a models folder of its own, that may be changed."""
    folder = tmp_path / "models" / "fraud" / "1.0.0"
    shutil.copytree(fraud_bundle, folder)
    return folder
