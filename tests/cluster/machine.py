"""The control plane's own machine, as far as the suite was given a command for it."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager


class Machine:
    """What ends parts of the control plane, and starts them again."""

    def __init__(self, command: str):
        self._command = command

    def crash(self, container: str) -> None:
        """End the process of a container, as a crash would."""
        self._run("crash", container)

    @contextmanager
    def without(self, part: str) -> Iterator[None]:
        """Do something while a part is dead."""
        self._run("kill", part)
        try:
            yield
        finally:
            self._run("start", part)

    def _run(self, verb: str, what: str) -> None:
        command = f"{self._command} {verb} {what}"
        done = subprocess.run(command, shell=True, capture_output=True, text=True, check=False, timeout=120)
        assert done.returncode == 0, f"{command}: {done.stderr}"
