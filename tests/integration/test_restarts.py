"""The promise: servers are restarted one after the other under load, and not one call fails.

Every call is accounted for, and no retry policy hides a failure. What gRPC does for every client by itself
is left on: a call that had not left the client when its connection was asked to end goes to another.
"""

import json
import shutil
import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

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
    call_without_pause: Callable[..., Any],
    pair: list[Path],
    golden: list[Any],
    options: tuple[tuple[str, Any], ...],
    restarts: int,
    *flags: str,
) -> tuple[Any, list[str]]:
    ports = [_free_port(), _free_port()]

    def start(index: int) -> Any:
        return start_server(
            *(pair[index], "--host", "127.0.0.1", "--port", str(ports[index]), "--health-port", "0"),
            *(*_LIFE, *flags),
        )

    servers = [start(index) for index in range(2)]
    digests = [process.wait_for(r"loaded fraud 1\.0\.0 (sha256:\w+)") for process in servers]
    options = (("grpc.initial_reconnect_backoff_ms", 100), ("grpc.max_reconnect_backoff_ms", 300), *options)
    target = "ipv4:" + ",".join(f"127.0.0.1:{port}" for port in ports)
    with connect(target, *options) as channel, call_without_pause(channel, golden) as load:
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


@pytest.mark.parametrize("workers", ["1", "2"])
def test_restarts_under_load_lose_no_call_of_a_client_that_checks_health(  # noqa: PLR0917 - fixtures
    start_server: Callable[..., Any],
    connect: Callable[..., Any],
    call_without_pause: Callable[..., Any],
    pair: list[Path],
    golden: list[Any],
    request: pytest.FixtureRequest,
    workers: str,
) -> None:
    config = json.dumps(_ROUND_ROBIN | _HEALTH)
    options = (("grpc.service_config", config), _OWN_ACCORD)
    restarts = request.config.getoption("--restarts", 6)
    load, _ = _restart_under_load(
        *(start_server, connect, call_without_pause, pair, golden, options, restarts, "--workers", workers)
    )
    assert load.failures == []
    assert load.started > 1_000


def test_restarts_under_load_refuse_no_call_of_a_client_that_retries(
    start_server: Callable[..., Any],
    connect: Callable[..., Any],
    call_without_pause: Callable[..., Any],
    pair: list[Path],
    golden: list[Any],
) -> None:
    # It does not check health, and so comes back to a server that drains, until that refuses it.
    config = json.dumps(_ROUND_ROBIN | _RETRY)
    options = (("grpc.service_config", config), _OWN_ACCORD)
    load, _ = _restart_under_load(start_server, connect, call_without_pause, pair, golden, options, 2)
    # Who comes back to a server that is about to stop may have a call there in the instant in which the C
    # core shuts down. That call is CANCELLED, which nobody retries: one of each thread at most.
    assert set(load.failures) <= {"StatusCode.CANCELLED: CANCELLED"}
    assert len(load.failures) <= 3 * 2


def test_connections_that_age_lose_no_call(
    start_server: Callable[..., Any],
    connect: Callable[..., Any],
    call_without_pause: Callable[..., Any],
    fraud_bundle: Path,
    golden: list[Any],
) -> None:
    process = start_server(fraud_bundle.parents[1], "--max-connection-age", "0.3", "--drain-timeout", "1")
    options = (("grpc.service_config", json.dumps(_ROUND_ROBIN)), _OWN_ACCORD)
    with connect(process.target, *options) as channel, call_without_pause(channel, golden) as load:
        time.sleep(4)
    assert load.failures == []
    assert sum(load.answers.values()) == load.started > 500
