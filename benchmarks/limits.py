"""What the kernel holds a container to, without one: processor time and memory of a group of processes."""

import contextlib
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from benchmarks.environments import AbsentError

_PERIOD = 100_000
_MOUNTS = Path("/proc/self/mounts")


class Limits:
    """A group of processes, of the kernel's second version of control groups or of the first.

    Attributes
    ----------
    prefix : list of str
        A command that runs another one in the group.
    """

    def __init__(self, folders: Sequence[Path]):
        self._folders = folders
        joined = " && ".join(f"echo $$ > {folder}/cgroup.procs" for folder in folders)
        self.prefix = ["sh", "-c", f'{joined} && exec "$@"', "sh"]

    def remove(self) -> None:
        """Remove the group, whose processes have ended."""
        for folder in self._folders:
            for _ in range(50):
                with contextlib.suppress(OSError):
                    folder.rmdir()
                    break
                time.sleep(0.1)


@contextmanager
def limited(processors: float, mebibytes: int) -> Iterator[Limits]:
    """Make a group that is held to so many processors and so much memory.

    Raises
    ------
    AbsentError
        If that takes more rights than there are, or the kernel has no such groups.
    """
    if os.geteuid() != 0:
        raise AbsentError("limits on processor and memory are set by root")
    quota, memory = round(processors * _PERIOD), mebibytes * 2**20
    name = f"forest-benchmark-{os.getpid()}"
    unified, controllers = _mounted()
    folders: list[Path] = []
    try:
        if unified is not None:
            folders.append(unified / name)
            _make(folders[0], {"cpu.max": f"{quota} {_PERIOD}", "memory.max": str(memory)})
        elif {"cpu", "memory"} <= controllers.keys():
            folders += [controllers["cpu"] / name, controllers["memory"] / name]
            _make(folders[0], {"cpu.cfs_period_us": str(_PERIOD), "cpu.cfs_quota_us": str(quota)})
            _make(folders[1], {"memory.limit_in_bytes": str(memory)})
        else:
            raise AbsentError("no control groups for processor and memory are mounted")
    except OSError as error:
        for folder in folders:
            with contextlib.suppress(OSError):
                folder.rmdir()
        raise AbsentError(f"the kernel lets no limits be set here: {error}") from error
    limits = Limits(folders)
    try:
        yield limits
    finally:
        limits.remove()


def _make(folder: Path, values: dict[str, str]) -> None:
    folder.mkdir()
    for name, value in values.items():
        (folder / name).write_text(value)


def _mounted() -> tuple[Path | None, dict[str, Path]]:
    """Return where the second version has both controllers, if it does, and the first version's by name."""
    unified, controllers = None, {}
    for line in _MOUNTS.read_text().splitlines():
        _, folder, kind, options, *_ = line.split()
        if kind == "cgroup":
            controllers.update(dict.fromkeys(options.split(","), Path(folder)))
        elif kind == "cgroup2":
            given = Path(folder) / "cgroup.subtree_control"
            if given.exists() and {"cpu", "memory"} <= set(given.read_text().split()):
                unified = Path(folder)
    return unified, controllers
