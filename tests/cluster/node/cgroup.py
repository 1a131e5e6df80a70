"""The node's cgroup: parts and pods are in it, so that nothing of them can be left behind."""

import os
import signal
import time
from pathlib import Path

from tests.cluster.node.error import NodeError
from tests.cluster.node.place import NAME

_MOUNTS = Path("/proc/self/mountinfo")


def _hierarchies() -> list[Path]:
    """Return where cgroups are mounted: one place with version 2, one for each controller with version 1."""
    found = []
    for line in _MOUNTS.read_text().splitlines():
        fields, _, kind = line.partition(" - ")
        if kind.split()[0] in ("cgroup", "cgroup2"):
            found.append(Path(fields.split()[4]))
    if not found:
        raise NodeError("no cgroups are mounted: /sys/fs/cgroup is empty")
    return sorted(found)


def make() -> None:
    """Make a cgroup in every hierarchy: pods go into `NAME`, parts into `NAME/parts`."""
    for hierarchy in _hierarchies():
        group = hierarchy / NAME
        (group / "parts").mkdir(parents=True, exist_ok=True)
        for place in (group, group / "parts"):
            # With version 1 a cpuset holds nobody until it has been told which cores and memory.
            for setting in ("cpuset.cpus", "cpuset.mems"):
                if (place / "tasks").exists() and (place / setting).exists():
                    (place / setting).write_text((place.parent / setting).read_text())
        controllers = hierarchy / "cgroup.controllers"
        if controllers.exists():
            wanted = " ".join(f"+{name}" for name in controllers.read_text().split())
            for place in (hierarchy, group):
                (place / "cgroup.subtree_control").write_text(wanted)


def join() -> None:
    """Put the calling process among the parts; for the moment between fork and exec."""
    for hierarchy in _hierarchies():
        (hierarchy / NAME / "parts" / "cgroup.procs").write_text(str(os.getpid()))


def processes() -> set[int]:
    """Return every process of the node, pods' too; not those that have ended and wait to be looked at."""
    found: set[int] = set()
    for hierarchy in _hierarchies():
        # Not by `rglob`, which fails where a pod's group goes meanwhile.
        for folder, _, _ in os.walk(hierarchy / NAME):
            try:
                found |= {int(line) for line in Path(folder, "cgroup.procs").read_text().split()}
            except OSError:
                continue  # it went meanwhile
    return {process for process in found if not ended(process)}


def ended(process: int) -> bool:
    """Return whether a process has ended, though perhaps nobody has looked at it yet."""
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return True
    return state == "Z"


def remove() -> None:
    """End every process of the node, and remove the cgroups."""
    deadline = time.monotonic() + 20
    while alive := processes():
        if time.monotonic() > deadline:
            raise NodeError(f"processes that do not end: {sorted(alive)}")
        for process in alive:
            try:
                os.kill(process, signal.SIGKILL)
            except ProcessLookupError:
                continue
        time.sleep(0.1)
    for hierarchy in _hierarchies():
        group = hierarchy / NAME
        for folder in sorted((path for path in group.rglob("*") if path.is_dir()), reverse=True):
            _remove(folder, deadline)
        if group.exists():
            _remove(group, deadline)


def _remove(folder: Path, deadline: float) -> None:
    while True:
        try:
            folder.rmdir()
            return
        except FileNotFoundError:
            return
        except OSError:
            # The kernel lets go of it a moment after its last process.
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
