"""A part of the node: one process, its log, and when it is ready."""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tests.cluster.node import cgroup
from tests.cluster.node.command import inside
from tests.cluster.node.error import NodeError
from tests.cluster.node.place import LOGS, ROOT


@dataclass(frozen=True, slots=True)
class Part:
    """A process.

    Attributes
    ----------
    name : str
        What it is called in messages; its log and its process id are in files of this name.
    ready : callable
        Whether it does its work; asked again and again from when it was started.
    """

    name: str
    command: tuple[str | Path, ...]
    ready: Callable[[], bool]
    environment: Mapping[str, str] = field(default_factory=dict)


def log(name: str) -> Path:
    """Return the log of a part."""
    return LOGS / f"{name}.log"


def start(part: Part) -> None:
    """Start a part in the node's network, apart from the terminal."""
    LOGS.mkdir(parents=True, exist_ok=True)
    with log(part.name).open("ab") as output:
        process = subprocess.Popen(
            inside(*part.command), env=os.environ | part.environment, cwd=ROOT, stdin=subprocess.DEVNULL,
            stdout=output, stderr=output, start_new_session=True, preexec_fn=cgroup.join,  # noqa: PLW1509 - there are no threads
        )  # fmt: skip
    _pid_file(part.name).write_text(str(process.pid))


def wait(part: Part, seconds: float = 60) -> None:
    """Return when a part is ready.

    Raises
    ------
    NodeError
        If it ends, or is not ready in time; with the end of its log.
    """
    deadline = time.monotonic() + seconds
    while not part.ready():
        if not alive(part.name):
            raise NodeError(f"{part.name} has ended:\n{_last_lines(part.name)}")
        if time.monotonic() > deadline:
            raise NodeError(f"{part.name} is not ready after {seconds:g} s:\n{_last_lines(part.name)}")
        time.sleep(0.1)


def alive(name: str) -> bool:
    """Return whether a part's process runs."""
    return _pid(name) in cgroup.processes()


def kill(name: str) -> None:
    """End a part at once, as a crash would. What it started goes on."""
    pid = _pid(name)
    if pid is None or not alive(name):
        raise NodeError(f"{name} does not run")
    os.kill(pid, signal.SIGKILL)
    while alive(name):
        time.sleep(0.02)


def _pid_file(name: str) -> Path:
    return ROOT / f"{name}.pid"


def _pid(name: str) -> int | None:
    try:
        return int(_pid_file(name).read_text())
    except FileNotFoundError:
        return None


def _last_lines(name: str) -> str:
    lines = log(name).read_text(errors="replace").splitlines()[-25:]
    return "\n".join([*lines, f"(all of it: {log(name)})"])
