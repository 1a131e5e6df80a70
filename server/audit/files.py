"""The audit log's files: one that is open for each process, and those that are closed.

A file is written under a name that ends in ``.jsonl.open`` by the process that holds its lock, and is closed
by a rename to ``.jsonl``. The lock goes with its process, however that ends: whoever gets it then cuts off
what is no whole record, and closes the file.
"""

import fcntl
import logging
import mmap
import os
import re
import socket
import time
from datetime import UTC, datetime
from itertools import count
from pathlib import Path

import orjson

_log = logging.getLogger(__name__)

CLOSED = ".jsonl"
"""How the names of files end that nobody writes to any more."""
OPEN = ".jsonl.open"
_ASIDE = ".new"

_FOLDER_MODE, _FILE_MODE = 0o750, 0o640
_DAY = 86_400


class Files:
    """Appends to a file of its own in a folder that others may share.

    Parameters
    ----------
    folder
        Where the files are. It is made if it is not there; what is above it must be.
    rotate_bytes
        A file that would grow beyond is closed, and the next one begun.
    rotate_seconds
        So is one that is as old.
    keep_days
        Closed files to which nothing was added for longer are deleted; 0: never.

    Raises
    ------
    OSError
        If nothing can be written there, or files there cannot be locked.
    """

    def __init__(self, folder: Path, rotate_bytes: int, rotate_seconds: float, keep_days: float):
        self._folder = folder
        self._rotate_bytes = rotate_bytes
        self._rotate_seconds = rotate_seconds
        self._keep = keep_days * _DAY
        host = re.sub(r"[^A-Za-z0-9.-]", "-", socket.gethostname()) or "host"
        self._owner = f"{host}-{os.getpid()}"
        self._numbers = count(1)
        self._path = folder
        self._descriptor = -1
        self._size = 0
        self._opened = 0.0
        try:
            folder.mkdir(mode=_FOLDER_MODE, exist_ok=True)
            # To see that it can be. The first that stays is begun by `write`: a start may be refused yet.
            self._open()
            self.close()
        except OSError as error:
            raise OSError(f"audit_folder {folder}: {error.strerror or error}") from error
        self.tidy()

    def write(self, data: bytes, *, durably: bool) -> None:
        """Append whole lines.

        Parameters
        ----------
        durably
            Whether they must be on the disk itself when this returns.

        Raises
        ------
        OSError
            If that failed. None of the lines is in a file then, and the next ones will go to a new file.
        """
        if self._size and self._size + len(data) > self._rotate_bytes:
            self.close()
        if self._descriptor < 0:
            self._open()
        try:
            rest = memoryview(data)
            while rest:
                rest = rest[os.write(self._descriptor, rest) :]
            if durably:
                os.fdatasync(self._descriptor)
        except OSError:
            # What of them has come to the disk nobody knows: they are cut off, and the file is left.
            self._close_truncated()
            raise
        self._size += len(data)

    def rotate(self) -> bool:
        """Close the file if it is of age, and return whether it was. The next one is begun by `write`."""
        due = self._size > 0 and time.monotonic() - self._opened >= self._rotate_seconds
        if due:
            self.close()
        return due

    def close(self) -> None:
        """Close the file, for all that it has to be on the disk; one that is empty is removed."""
        descriptor, self._descriptor = self._descriptor, -1
        size, self._size = self._size, 0
        if descriptor >= 0:
            try:
                _finish(descriptor, self._path, size)
            finally:
                os.close(descriptor)

    def tidy(self) -> None:
        """Close what processes that have ended left open, and delete what is too old."""
        close_orphans(self._folder)
        if self._keep:
            oldest = time.time() - self._keep
            for path in closed(self._folder):
                try:
                    if path.stat().st_mtime < oldest:
                        path.unlink()
                        _log.info("deleted %s: it was to be kept for %g days", path.name, self._keep / _DAY)
                except FileNotFoundError:
                    # Another one did so.
                    continue
                except OSError as error:
                    _log.error("cannot delete %s: %s", path, error.strerror)

    def _open(self) -> None:
        while self._descriptor < 0:
            # By their names files are in the order of their beginnings.
            begun = f"{datetime.now(UTC):%Y%m%dT%H%M%S.%fZ}"
            path = self._folder / f"{begun}-{self._owner}-{next(self._numbers)}{OPEN}"
            flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
            descriptor = os.open(path, flags, _FILE_MODE)
            try:
                # Before it had its lock, another process may have taken it for an orphan.
                if _lock(descriptor) and _is(descriptor, path):
                    _sync_folder(self._folder)
                    self._path, self._descriptor = path, descriptor
                    self._size, self._opened = 0, time.monotonic()
            finally:
                if self._descriptor < 0:
                    os.close(descriptor)

    def _close_truncated(self) -> None:
        try:
            os.ftruncate(self._descriptor, self._size)
            self.close()
        except OSError as error:
            # Without its lock it is an orphan.
            if self._descriptor >= 0:
                os.close(self._descriptor)
                self._descriptor = -1
            _log.error("cannot close %s: %s", self._path.name, error.strerror)


def closed(folder: Path) -> list[Path]:
    """Return the files that nobody writes to any more, those that were begun first coming first."""
    return sorted(folder.glob(f"[!.]*{CLOSED}"))


def still_open(folder: Path) -> list[Path]:
    """Return the files that processes write to, and perhaps some whose process has just ended."""
    return sorted(folder.glob(f"[!.]*{OPEN}"))


def close_orphans(folder: Path) -> None:
    """Close the files that nobody has open, but for what is no whole record at their ends."""
    for path in still_open(folder):
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
            try:
                # Who held the lock may have closed it since it was found.
                if _lock(descriptor) and _is(descriptor, path):
                    size = os.fstat(descriptor).st_size
                    whole = _whole(descriptor, size)
                    if whole < size:
                        os.ftruncate(descriptor, whole)
                    _finish(descriptor, path, whole)
                    _log.warning(
                        "closed %s, whose process has ended: %d bytes, and %d that were no whole record",
                        *(path.name, whole, size - whole),
                    )
            finally:
                os.close(descriptor)
        except FileNotFoundError:
            continue
        except OSError as error:
            _log.error("cannot close %s, whose process has ended: %s", path, error.strerror)


def replace(path: Path, data: bytes) -> None:
    """Let a closed file hold something else. Whoever reads it finds the one or the other, and its time stays.

    If it ends up empty it is removed.
    """
    if data:
        status = path.stat()
        aside = path.with_name(f".{path.name}{_ASIDE}")
        descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, _FILE_MODE)
        try:
            with open(descriptor, "wb") as file:
                file.write(data)
                file.flush()
                os.utime(descriptor, ns=(status.st_atime_ns, status.st_mtime_ns))
                if os.geteuid() == 0:
                    os.fchown(descriptor, status.st_uid, status.st_gid)
                os.fsync(descriptor)
        except OSError as error:
            # Where a disk is full, servers that write to it need the room.
            aside.unlink()
            raise OSError(error.errno, error.strerror, str(path)) from error
        aside.replace(path)
    else:
        path.unlink()
    _sync_folder(path.parent)


def remove_asides(folder: Path) -> None:
    """Remove what a `replace` has left that did not come to its end. No other one may be under way."""
    for path in folder.glob(f".*{CLOSED}{_ASIDE}"):
        path.unlink()


def _finish(descriptor: int, path: Path, size: int) -> None:
    """Give a file that is whole its last name."""
    if size:
        os.fsync(descriptor)
        path.rename(path.with_name(path.name.removesuffix(OPEN) + CLOSED))
    else:
        path.unlink()
    _sync_folder(path.parent)


def _lock(descriptor: int) -> bool:
    """Take a file's lock, and return whether nobody else has it."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is(descriptor: int, path: Path) -> bool:
    """Return whether a file is still the one of that name."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _whole(descriptor: int, size: int) -> int:
    """Return where the last whole record of a file ends.

    After a process ended only the last line may be torn. After the machine did, others before it may be, too.
    """
    if not size:
        return 0
    with mmap.mmap(descriptor, size, access=mmap.ACCESS_READ) as data:
        end = data.rfind(b"\n") + 1
        while end:
            begin = data.rfind(b"\n", 0, end - 1) + 1
            try:
                orjson.loads(data[begin:end])
            except orjson.JSONDecodeError:
                end = begin
            else:
                break
    return end
