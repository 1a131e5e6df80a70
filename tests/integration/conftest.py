"""What tests of the real server share."""

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest
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


@pytest.fixture
def copied(fraud_bundle: Path, tmp_path: Path) -> Path:
    """Return a copy of the fraud bundle, in a models folder of its own, that may be changed."""
    folder = tmp_path / "models" / "fraud" / "1.0.0"
    shutil.copytree(fraud_bundle, folder)
    return folder
