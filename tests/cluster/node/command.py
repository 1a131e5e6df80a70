"""A command that must succeed."""

import subprocess
from collections.abc import Mapping
from pathlib import Path

from tests.cluster.node.error import NodeError
from tests.cluster.node.place import NETWORK


def run(
    *command: str | Path,
    standard_input: str | None = None,
    environment: Mapping[str, str] | None = None,
    folder: Path | None = None,
    seconds: float = 60,
) -> str:
    """Return what a command prints.

    Raises
    ------
    NodeError
        If it fails, or takes longer than `seconds`; with what it said.
    """
    try:
        done = subprocess.run(
            command, input=standard_input, env=environment, cwd=folder, capture_output=True, text=True,
            check=False, timeout=seconds,
        )  # fmt: skip
    except FileNotFoundError as error:
        raise NodeError(f"{command[0]} is not here") from error
    except subprocess.TimeoutExpired as error:
        raise NodeError(f"{' '.join(map(str, command))}: not done after {seconds:g} s") from error
    if done.returncode:
        said = (done.stderr.strip() or done.stdout.strip())[-2000:]
        raise NodeError(f"{' '.join(map(str, command))} failed: {said}")
    return done.stdout


def inside(*command: str | Path) -> tuple[str | Path, ...]:
    """Return a command that runs in the node's network.

    Not by ``ip netns exec``, which mounts another /sys, where the kubelet finds no cgroups.
    """
    return ("nsenter", f"--net={NETWORK}", "--", *command)


def succeeds(*command: str | Path) -> bool:
    """Return whether a command succeeds, within some seconds."""
    try:
        run(*command, seconds=10)
    except NodeError:
        return False
    return True
