"""What the server's processes use of the machine, all of them together, as the kernel knows it."""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

_TICK = 1 / os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")
# Places in /proc/PID/stat behind the process' name, which may hold anything.
_USER, _SYSTEM, _CHILDREN_USER, _CHILDREN_SYSTEM, _START, _RESIDENT = 11, 12, 13, 14, 19, 21


@dataclass(frozen=True, slots=True)
class Usage:
    """What some processes use together.

    Attributes
    ----------
    processor : float
        Seconds of processor time, those of workers that have ended among them.
    resident : int
        Bytes in memory. What several processes share counts for each of them.
    start : float
        When the first of them began, in seconds since the epoch.
    open_files, most_files : int
        How many files are open, and how many may be.
    """

    processor: float
    resident: int
    start: float
    open_files: int
    most_files: int


def of(parent: int, others: Iterable[int]) -> Usage | None:
    """Return what a process and others use together; None where the kernel does not tell.

    Parameters
    ----------
    parent
        The server's process. What its children have used counts from their end on.
    others
        Its children, as far as they live. One that has gone meanwhile is left out.
    """
    try:
        # Before the others: one that ends in between is missing, and not counted twice.
        fields = _fields(parent)
        began = next(
            int(line.split()[1])
            for line in Path("/proc/stat").read_text().splitlines()
            if line[:5] == "btime"
        )
        open_files, most_files = _files(parent)
    except (OSError, StopIteration):
        return None
    ticks = sum(fields[place] for place in (_USER, _SYSTEM, _CHILDREN_USER, _CHILDREN_SYSTEM))
    pages, start = fields[_RESIDENT], began + fields[_START] * _TICK
    for other in others:
        try:
            fields = _fields(other)
            ticks += fields[_USER] + fields[_SYSTEM]
            pages += fields[_RESIDENT]
            found = _files(other)
        except OSError:
            continue
        open_files, most_files = open_files + found[0], most_files + found[1]
    return Usage(ticks * _TICK, pages * _PAGE, start, open_files, most_files)


def _fields(process: int) -> list[int]:
    behind_name = Path(f"/proc/{process}/stat").read_text().rpartition(") ")[2].split()
    # The first is the state, a letter.
    return [0, *map(int, behind_name[1:])]


def _files(process: int) -> tuple[int, int]:
    limits = Path(f"/proc/{process}/limits").read_text().splitlines()
    (limit,) = [line.split()[3] for line in limits if line.startswith("Max open files")]
    return len(os.listdir(f"/proc/{process}/fd")), int(limit) if limit.isdigit() else 0
