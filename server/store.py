"""Counts that one process makes and another may read: named cells in a piece of memory.

A cell is a whole number of 64 bits, and is written in one go. Memory that a supervisor shares with a worker
outlives the worker: the next one in its place goes on from its counts.
"""

import json
import logging
import threading
from collections.abc import Mapping
from mmap import mmap
from typing import NamedTuple

_log = logging.getLogger(__name__)

SIZE = 1 << 23
"""Bytes of a store. The machine gives those that are used. A version of a model with 30 features takes some
20 KiB, and keeps them when it goes: there is room for hundreds of them.
"""

_WORD = 8
# Of an entry: how many words its key takes, the key's length in bytes, and how many cells follow it.
_HEADER = 3


class Key(NamedTuple):
    """What cells are called."""

    name: str
    labels: tuple[tuple[str, str], ...]


class Store:
    """Cells by name and labels.

    An entry is written whole before it is counted among those in use: who reads meanwhile, in whichever
    process, never sees half of one.

    Parameters
    ----------
    memory
        `SIZE` bytes, zeros or an earlier store's; None for memory of its own.
    """

    def __init__(self, memory: mmap | None = None):
        self._bytes = memoryview(mmap(-1, SIZE) if memory is None else memory)
        self._words = self._bytes.cast("q")
        self._lock = threading.Lock()
        self._known: dict[Key, memoryview] = {}
        self._seen = 1
        self._full = False

    def cells(self, name: str, labels: Mapping[str, str], count: int = 1) -> memoryview:
        """Return the cells of a name and labels, of format ``q``. New ones are zeros.

        Where there is no room for new ones, they are this object's: no other process reads them.
        """
        key = Key(name, tuple(labels.items()))
        with self._lock:
            self._look()
            known = self._known.get(key)
            if known is None or len(known) != count:
                if self._add(key, count):
                    self._look()
                else:
                    self._known[key] = memoryview(bytearray(count * _WORD)).cast("q")
        return self._known[key]

    def read(self) -> dict[Key, list[int]]:
        """Return what is in every cell now."""
        with self._lock:
            self._look()
            return {key: cells.tolist() for key, cells in self._known.items()}

    def _add(self, key: Key, count: int) -> bool:
        """Add an entry, and return whether there was room for it."""
        text = json.dumps(key).encode()
        first = self._words[0] or 1
        of_key = -(-len(text) // _WORD)
        cells = first + _HEADER + of_key
        if cells + count > len(self._words):
            if not self._full:
                _log.error(
                    "no room in the store of metrics for %d cells of %s: where there are workers, "
                    "such cells are not told until the server starts anew",
                    *(count, key.name),
                )
            self._full = True
            return False
        self._words[first], self._words[first + 1], self._words[first + 2] = of_key, len(text), count
        start = (first + _HEADER) * _WORD
        self._bytes[start : start + len(text)] = text
        # Who was killed while adding may have left something here.
        self._bytes[cells * _WORD : (cells + count) * _WORD] = bytes(count * _WORD)
        self._words[0] = cells + count
        return True

    def _look(self) -> None:
        """Take note of the entries that have come since the last look. A later one of a key stands."""
        end = self._words[0]
        while self._seen < end:
            of_key, length, count = self._words[self._seen : self._seen + _HEADER]
            start = (self._seen + _HEADER) * _WORD
            name, labels = json.loads(bytes(self._bytes[start : start + length]))
            cells = self._seen + _HEADER + of_key
            self._known[Key(name, tuple((label, value) for label, value in labels))] = self._words[
                cells : cells + count
            ]
            self._seen = cells + count
