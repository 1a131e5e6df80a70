"""Erase and check records in the audit log's files, while servers go on writing theirs."""

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
        If a file cannot be read or replaced. Those before it have been.
    """
    wanted = frozenset((request_id[:REQUEST_ID], row) for request_id, row in rows)
    erased = Erased()
    journal = os.open(folder / JOURNAL, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)
    try:
        # One at a time: what another one has put aside is not touched.
        fcntl.flock(journal, fcntl.LOCK_EX)
        files.remove_asides(folder)
        files.close_orphans(folder)
        # Before the closed ones: one that is closed meanwhile is looked at twice, and not left out.
        opened = files.still_open(folder)
        for path in files.closed(folder):
            try:
                lines = list(_lines(path))
            except FileNotFoundError:
                # It was too old, and a server has deleted it.
                continue
            kept = [line for line in lines if not _is_wanted(line, wanted)]
            erased.looked_at += 1
            if len(kept) < len(lines):
                files.replace(path, b"".join(kept))
                erased.records += len(lines) - len(kept)
                erased.files += 1
        for path in opened:
            try:
                found = sum(_is_wanted(line, wanted) for line in _lines(path))
            except FileNotFoundError:
                continue
            if found:
                erased.left.append((path.name, found))
        told = {
            "time": f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}",
            "requests": len({request_id for request_id, _ in wanted}),
            "records": erased.records,
            "files": erased.files,
            "left_in_open_files": sum(found for _, found in erased.left),
        }
        os.write(journal, orjson.dumps(told) + b"\n")
        os.fsync(journal)
    finally:
        os.close(journal)
    return erased


def faults(folder: Path) -> Iterator[str]:
    """Return what is no record in a folder's closed files: file, line and fault."""
    for path in files.closed(folder):
        for number, line in enumerate(_lines(path), 1):
            if fault := _fault(line):
                yield f"{path.name}:{number}: {fault}"


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
