"""The server runs with what its own lock installs, and with nothing else."""

import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from forest.v1.prediction_service_pb2 import PredictRequest, Vector
from forest.v1.prediction_service_pb2_grpc import PredictionServiceStub

_ROOT = Path(__file__).parents[2]
_ABSENT = ("sklearn", "pandas", "skl2onnx", "onnx", "scipy", "matplotlib", "joblib", "jsonschema", "jinja2")
_NO_INDEX = (
    r"No matching distribution|Failed to establish a new connection|Temporary failure in name resolution"
)


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the Python of a virtual environment that holds the server's lock alone."""
    folder = tmp_path_factory.mktemp("server-only") / "venv"
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True, timeout=120)
    python = folder / "bin" / "python"
    installed = subprocess.run(
        [
            *(str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"),
            *("--require-hashes", "--no-deps", "-r", str(_ROOT / "server" / "requirements.txt")),
        ],
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    if installed.returncode and re.search(_NO_INDEX, installed.stderr):
        pytest.skip(f"pip reaches no package index: {installed.stderr.splitlines()[-1]}")
    assert installed.returncode == 0, installed.stderr
    return python


@pytest.fixture(scope="module")
def environment() -> dict[str, str]:
    own = {key: value for key, value in os.environ.items() if not key.startswith(("FOREST_", "PYTHON"))}
    return {**own, "PYTHONPATH": os.pathsep.join([str(_ROOT), str(_ROOT / "clients" / "python")])}


def test_the_lock_is_complete_and_holds_nothing_of_the_export(
    python: Path, environment: dict[str, str]
) -> None:
    script = (
        "import importlib.util, json, sys; "
        "print(json.dumps([n for n in sys.argv[1:] if importlib.util.find_spec(n)]))"
    )
    found = subprocess.run(
        [str(python), "-c", script, *_ABSENT, "onnxruntime"],
        env=environment,
        cwd="/",
        capture_output=True,
        check=True,
        timeout=60,
    )
    assert json.loads(found.stdout) == ["onnxruntime"]
    checked = subprocess.run(
        [str(python), "-m", "pip", "check"], capture_output=True, text=True, check=False, timeout=60
    )
    assert checked.returncode == 0, checked.stdout


def test_the_server_serves_with_its_own_lock_alone(
    python: Path,
    environment: dict[str, str],
    fraud_bundle: Path,
    golden: list[Any],
    connect: Callable[..., Any],
) -> None:
    command = [str(python), "-m", "server", "--models", str(fraud_bundle.parents[1])]
    with subprocess.Popen(
        [*command, "--port=0", "--health-port=0", "--metrics-port=0"],
        env=environment,
        cwd="/",
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        killer = threading.Timer(60, process.kill)
        killer.start()
        try:
            assert process.stderr is not None
            log = []
            for line in process.stderr:
                log.append(line)
                if port := re.search(r" SERVING on port (\d+)", line):
                    break
            else:
                pytest.fail("".join(log))
            with connect(f"localhost:{port[1]}") as channel:
                predict = PredictionServiceStub(channel).Predict
                for row in golden[:20]:
                    request = PredictRequest(model="fraud", vector=Vector(values=row.values))
                    assert predict(request, timeout=10).classification.label == row.label
            process.terminate()
            process.stderr.read()
            assert process.wait(30) == 0
        finally:
            killer.cancel()
            process.kill()
