"""Erase and check records in the audit log's files, while servers go on writing theirs."""

import errno
import fcntl
import os
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson

from server.audit import files
from server.audit.record import REQUEST_ID

JOURNAL = "erasures.log"
"""What each erasure leaves: when it was, and how much went, but not what."""
# Bytes of its line there, whatever it comes to.
_LINE = 256

_TYPES: dict[str, type | tuple[type, ...]] = {
    "time": str,
    "request_id": str,
    "row": (int, type(None)),
    "caller": str,
    "model": str,
    "version": str,
    "digest": str,
    "outcome": dict,
    "latency": float,
}

Row = tuple[str, int | None]
"""A request, by its id; and the place of a row in it, or None for all that it has."""


@dataclass(slots=True)
class Erased:
    """What an erasure came to.

    Attributes
    ----------
    records, files : int
        Records that are gone, and the closed files that they were in.
    looked_at : int
        Closed files.
    left : list of (str, int)
        Open files with such records, and how many. They are closed in a while: erase again then.
    """

    records: int = 0
    files: int = 0
    looked_at: int = 0
    left: list[tuple[str, int]] = field(default_factory=list)


def erase(folder: Path, rows: Collection[Row]) -> Erased:
    """Erase records from all closed files of a folder. Each file is replaced as a whole, or not at all.

    Raises
    ------
    OSError
        If a file cannot be read or replaced, and so it names. Those before it have been, and `JOURNAL` tells
        how much that was.
    """
    wanted = frozenset((request_id[:REQUEST_ID], row) for request_id, row in rows)
    erased = Erased()
    path = folder / JOURNAL
    # Not to append: its line is written over as the erasure goes on.
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o640)
    try:
        # One at a time: what another one has put aside is not touched.
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        entry = _Entry(path, descriptor, len({request_id for request_id, _ in wanted}))
        files.remove_asides(folder)
        files.close_orphans(folder)
        # Before the closed ones: one that is closed meanwhile is looked at twice, and not left out.
        opened = files.still_open(folder)
        for closed in files.closed(folder):
            try:
                lines = list(_lines(closed))
                kept = [line for line in lines if not _is_wanted(line, wanted)]
                if len(kept) < len(lines):
                    files.replace(closed, b"".join(kept))
            except FileNotFoundError:
                # It was too old, and a server has deleted it.
                continue
            erased.looked_at += 1
            if len(kept) < len(lines):
                erased.records += len(lines) - len(kept)
                erased.files += 1
                entry.tell(erased)
        for open_file in opened:
            try:
                found = sum(_is_wanted(line, wanted) for line in _lines(open_file))
            except FileNotFoundError:
                continue
            if found:
                erased.left.append((open_file.name, found))
        entry.tell(erased, complete=True)
    finally:
        os.close(descriptor)
    return erased


class _Entry:
    """The line of an erasure in the journal.

    It takes its room before anything is erased, so that at any time, and on a disk that is full by then, it
    tells what has been.

    Parameters
    ----------
    path, descriptor
        The journal.
    requests
        Whose records go: how many.

    Raises
    ------
    OSError
        If there is no room for it.
    """

    def __init__(self, path: Path, descriptor: int, requests: int):
        self._path = path
        self._descriptor = descriptor
        self._begun = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"
        self._requests = requests
        self._place = os.fstat(descriptor).st_size
        try:
            self.tell(Erased())
        except OSError:
            os.ftruncate(descriptor, self._place)
            raise

    def tell(self, erased: Erased, *, complete: bool = False) -> None:
        """Tell what has been erased so far, and whether that was all."""
        told = {
            "time": self._begun,
            "requests": self._requests,
            "records": erased.records,
            "files": erased.files,
            "left_in_open_files": sum(found for _, found in erased.left),
            "complete": complete,
        }
        line = orjson.dumps(told).ljust(_LINE - 1) + b"\n"
        try:
            if os.pwrite(self._descriptor, line, self._place) < len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.fdatasync(self._descriptor)
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(self._path)) from error


def faults(folder: Path) -> Iterator[str]:
    """Return what is no record in a folder's closed files: file, line and fault."""
    for path in files.closed(folder):
        try:
            for number, line in enumerate(_lines(path), 1):
                if fault := _fault(line):
                    yield f"{path.name}:{number}: {fault}"
        except FileNotFoundError:
            # It was too old, and a server has deleted it.
            continue


def _lines(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        yield from file


def _is_wanted(line: bytes, wanted: Collection[Row]) -> bool:
    try:
        record = orjson.loads(line)
        request_id, row = record["request_id"], record["row"]
    except (orjson.JSONDecodeError, LookupError, TypeError):
        # The last line of an open file may be half written.
        return False
    return (request_id, None) in wanted or (request_id, row) in wanted


def _fault(line: bytes) -> str:
    try:
        record: Any = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        return f"no JSON: {error}"
    if not isinstance(record, dict):
        return "no object"
    for name, kind in _TYPES.items():
        if not isinstance(record.get(name), kind) or name not in record:
            return f"{name} is missing, or of the wrong type"
    return ""
