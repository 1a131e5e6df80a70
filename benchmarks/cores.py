"""Which core runs what: the server under measure has one to itself, the load another."""

import os

_AVAILABLE = sorted(os.sched_getaffinity(0))
SERVER = _AVAILABLE[0]
LOAD = _AVAILABLE[-1]
BOTH = f"{SERVER},{LOAD}"


def pinned(core: int | str, command: list[str]) -> list[str]:
    """Return a command that runs on one core, or on a list of them."""
    return ["taskset", "--cpu-list", str(core), *command]
