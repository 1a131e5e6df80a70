"""The peers' virtual environments: each has one of its own, made by its lock on first use and kept."""

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

PEERS = Path(__file__).parent / "peers"
_CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "forest-serving" / "benchmarks"
_SECONDS = 600


class AbsentError(RuntimeError):
    """Something that a measurement needs is not here, and why. The measurement is left out."""


def python(peer: str) -> Path:
    """Return the Python of a peer's environment, which is installed if it is not there yet.

    Its folder's name holds the digest of the lock and of this Python's version, so that another lock gets
    another environment.

    Raises
    ------
    AbsentError
        If it cannot be installed.
    """
    lock = PEERS / peer / "requirements.txt"
    digest = hashlib.sha256(lock.read_bytes() + sys.version.encode()).hexdigest()
    folder = _CACHE / f"{peer}-{digest[:16]}"
    program = folder / "bin" / "python"
    complete = folder / "complete"
    if not complete.exists():
        print(f"{peer}: installing its environment", file=sys.stderr)
        shutil.rmtree(folder, ignore_errors=True)
        folder.parent.mkdir(parents=True, exist_ok=True)
        options = ["--quiet", "--disable-pip-version-check", "--require-hashes", "--only-binary", ":all:"]
        try:
            subprocess.run([sys.executable, "-m", "venv", folder], check=True, timeout=_SECONDS)
            subprocess.run(
                [program, "-m", "pip", "install", *options, "-r", lock],
                check=True,
                timeout=_SECONDS,
                stderr=subprocess.PIPE,
                text=True,
            )
        except (OSError, subprocess.SubprocessError) as error:
            said = (getattr(error, "stderr", None) or str(error)).strip().splitlines()
            raise AbsentError(f"{peer} cannot be installed: {said[-1] if said else error}") from error
        complete.touch()
    return program
