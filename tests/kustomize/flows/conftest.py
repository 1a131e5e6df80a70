"""The judge of flows: cyclonus, which knows what NetworkPolicies mean, asked by main.go."""

import hashlib
import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

_SOURCES = Path(__file__).parent
_NO_NETWORK = r"dial tcp|i/o timeout|connection refused|module lookup disabled"


@pytest.fixture(scope="session")
def judge() -> Callable[..., set[tuple[int, int, int]]]:
    """Return a function that says which of these pairs of peers may talk, on which of these ports."""
    binary = _binary()

    def run(**question: Any) -> set[tuple[int, int, int]]:
        done = subprocess.run(
            [binary], input=json.dumps(question), capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return {tuple(flow) for flow in json.loads(done.stdout)}

    return run


def _binary() -> Path:
    """Return the judge: built once, and kept under its sources' digest."""
    sources = b"".join((_SOURCES / name).read_bytes() for name in ("go.mod", "go.sum", "main.go"))
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
    binary = cache / "forest-serving" / "tools" / f"flows-{hashlib.sha256(sources).hexdigest()[:16]}"
    if binary.exists():
        return binary
    if not shutil.which("go"):
        pytest.skip("go is not on PATH: with it (1.22 or newer) the judge of the policies is built")
    binary.parent.mkdir(parents=True, exist_ok=True)
    partial = binary.with_name(f".{binary.name}-{os.getpid()}")
    made = subprocess.run(
        ["nice", "go", "build", "-buildvcs=false", "-trimpath", "-ldflags=-s -w", "-o", partial, "."],
        cwd=_SOURCES,
        env=os.environ | {"CGO_ENABLED": "0"},
        capture_output=True,
        text=True,
        check=False,
    )
    if made.returncode and re.search(_NO_NETWORK, made.stderr):
        pytest.skip(f"go reaches no module proxy: {made.stderr.splitlines()[-1]}")
    assert made.returncode == 0, made.stderr
    partial.rename(binary)
    return binary
