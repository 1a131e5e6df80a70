"""proto/ is in order, and the stubs in clients/python are those that it gives."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
STUBS = ROOT / "clients" / "python"


def make(*words: str) -> None:
    # A `make test` around these tests must not pass its own flags on.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    result = subprocess.run(
        ["make", *words], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stdout + result.stderr


def generated(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*_pb2*"))
        if path.suffix in (".py", ".pyi")
    }


def test_buf_has_nothing_to_say():
    make("proto-lint")


def test_the_stubs_are_not_stale(tmp_path):
    make("stubs", f"STUBS={tmp_path}")
    fresh = generated(tmp_path)
    assert len(fresh) >= 6
    assert fresh == generated(STUBS)


def test_messages_need_no_grpc():
    program = """
import sys

class NoGrpc:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "grpc":
            raise ImportError(name)

sys.meta_path.insert(0, NoGrpc())
from forest.v1 import model_service_pb2, prediction_service_pb2
from inference import grpc_service_pb2
try:
    from forest.v1 import prediction_service_pb2_grpc
except ImportError:
    print(prediction_service_pb2.PredictRequest(model="fraud").model)
"""
    result = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=STUBS
    )
    assert result.stdout == "fraud\n"
