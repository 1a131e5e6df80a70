"""Files that may change while the server runs: certificates, keys, a policy."""

import logging
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Generic, TypeVar

_log = logging.getLogger(__name__)

_Value = TypeVar("_Value")

INTERVAL = 1.0
"""How often to look, in seconds. What is new is read when two looks in a row have seen it."""


class Followed(Generic[_Value]):
    """What files say, and go on to say when they change.

    Parameters
    ----------
    name
        What they are, for the log.
    files
        Where they are. Links are followed.
    read
        Reads and checks them. What it returns stands until a later reading succeeds.

    Attributes
    ----------
    value
        What they said when they were last found good.

    Raises
    ------
    OSError, ValueError
        Whatever ``read`` raises the first time.
    """

    def __init__(self, name: str, files: Iterable[Path], read: Callable[[], _Value]):
        self._name = name
        self._files = tuple(files)
        self._read = read
        self._known = self._seen = self._look()
        self.value = read()

    def look(self) -> None:
        """Look at the files, and read them if they have changed. If they are bad, the old ones stand."""
        seen, before = self._look(), self._seen
        self._seen = seen
        # Not seen twice like this yet: somebody may be writing, or have written one of two.
        if seen == self._known or seen != before:
            return
        try:
            value = self._read()
        except Exception as error:
            # Whatever is wrong with them, who serves by the old ones goes on.
            _log.error("refused: the new %s: %s. The old one stands", self._name, error)
        else:
            if self._look() != seen:
                return
            self.value = value
            _log.info("took the new %s", self._name)
        self._known = seen

    def _look(self) -> tuple[tuple[int, int, int] | None, ...]:
        return tuple(_look(file) for file in self._files)


def _look(file: Path) -> tuple[int, int, int] | None:
    """Return what tells whether a file is another than before; None if there is none."""
    try:
        status = file.stat()
    except OSError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns
