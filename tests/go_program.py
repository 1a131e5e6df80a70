"""Programs of tests' own, in Go: built once, and kept under their sources' digest."""

import hashlib
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

_NO_NETWORK = r"dial tcp|i/o timeout|connection refused|module lookup disabled"


def build(sources: Path, name: str, without: str) -> Path:
    """Return the program of a folder with ``go.mod``, ``go.sum`` and ``main.go``; or skip.

    Parameters
    ----------
    sources : Path
        The folder.
    name : str
        What it is called where it is kept.
    without : str
        What is said where there is no Go, after "go is not on PATH: ".
    """
    read = b"".join((sources / file).read_bytes() for file in ("go.mod", "go.sum", "main.go"))
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
    binary = cache / "forest-serving" / "tools" / f"{name}-{hashlib.sha256(read).hexdigest()[:16]}"
    if binary.exists():
        return binary
    if not shutil.which("go"):
        pytest.skip(f"go is not on PATH: {without}")
    binary.parent.mkdir(parents=True, exist_ok=True)
    partial = binary.with_name(f".{binary.name}-{os.getpid()}")
    made = subprocess.run(
        ["nice", "go", "build", "-buildvcs=false", "-trimpath", "-ldflags=-s -w", "-o", partial, "."],
        cwd=sources,
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
