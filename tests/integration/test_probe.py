"""The command that asks for health."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from server import probe


def _probe(target: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "server.probe", *arguments],
        env={"FOREST_HEALTH_PORT": target.rpartition(":")[2], "PYTHONSAFEPATH": ""},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("arguments", [(), ("liveness",), ("models/fraud",), ("",)])
def test_a_server_that_serves_is_healthy(server: Any, arguments: tuple[str, ...]) -> None:
    done = _probe(server.health_target, *arguments)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.endswith("SERVING\n")


def test_what_the_server_does_not_know_is_not_healthy(server: Any) -> None:
    done = _probe(server.health_target, "models/absent")
    assert done.returncode == 1
    assert "NOT_FOUND: no health service 'models/absent'" in done.stderr


def test_a_server_that_refuses_its_models_is_alive_and_not_ready(
    start_server: Callable[..., Any], copied: Path
) -> None:
    (copied / "model.onnx").write_bytes(b"spoilt")
    target = start_server(copied.parents[1]).health_target
    assert _probe(target, "liveness").returncode == 0
    done = _probe(target)
    assert (done.returncode, done.stdout.split()[-1]) == (1, "NOT_SERVING")


def test_nobody_there_is_not_healthy(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    # Nothing listens on this one, which nobody but root may take.
    monkeypatch.setenv("FOREST_HEALTH_PORT", "1")
    assert probe.main([]) == 1
    assert capsys.readouterr().err.startswith("readiness on port 1: UNAVAILABLE")


def test_two_services_are_one_too_many(capsys: Any) -> None:
    assert probe.main(["liveness", "readiness"]) == 2
    assert "one health service or none" in capsys.readouterr().err
