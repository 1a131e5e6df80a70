"""A CSV file, read row by row: plain, gzip or xz, or standard input."""

import csv
import gzip
import io
import lzma
import os
import sys
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import BinaryIO, Self, cast


class TableError(ValueError):
    """A file that cannot be read as a table. The message names the file, and the line if there is one."""


@dataclass(frozen=True, slots=True)
class Row:
    """A row of data.

    Attributes
    ----------
    number : int
        Of the row, from 1, blank lines not counted.
    line : int
        Of the file, from 1, on which the row begins: a quoted cell may span several.
    cells : list of str
        Not necessarily as many as the header has.
    """

    number: int
    line: int
    cells: list[str]


class Table:
    """A CSV file with a header. Iterating reads it once, a row at a time.

    Parameters
    ----------
    path
        The file's; ``-`` is standard input. Its first bytes, not its name, tell how it is compressed.

    Attributes
    ----------
    name : str
        The file's base name, for messages and request ids.
    header : list of str
        The columns' names.

    Raises
    ------
    TableError
        If it cannot be opened or has no header. Iterating raises it for what is wrong further down.
    """

    def __init__(self, path: str):
        self.name = "stdin" if path == "-" else os.path.basename(path)
        try:
            self._raw = sys.stdin.buffer if path == "-" else open(path, "rb")  # noqa: SIM115 - see __exit__
        except OSError as error:
            raise TableError(f"{path}: {error.strerror}") from error
        # utf-8-sig: spreadsheets put a byte order mark before the first column's name.
        self._text = io.TextIOWrapper(_decompressed(self._raw), "utf-8-sig", newline="")
        self._reader = csv.reader(self._text, strict=True)
        self._line = 0
        header = self._next()
        if not header:
            raise TableError(f"{self.name}: it is empty, or its first line is: a header is expected there")
        self.header = header

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._raw.close()

    @property
    def size(self) -> int | None:
        """The file's size in bytes, as it is on disk. None where it has none, as in a pipe."""
        return os.fstat(self._raw.fileno()).st_size or None

    @property
    def position(self) -> int:
        """How many of these bytes have been read. 0 where `size` is None."""
        return self._raw.tell() if self._raw.seekable() else 0

    def __iter__(self) -> Iterator[Row]:
        number = 0
        while True:
            line = self._line + 1
            cells = self._next()
            if cells is None:
                return
            if cells:
                number += 1
                yield Row(number, line, cells)

    def _next(self) -> list[str] | None:
        try:
            cells = next(self._reader, None)
        except csv.Error as error:
            raise TableError(f"{self.name}:{self._line + 1}: {error}") from error
        except (EOFError, gzip.BadGzipFile, lzma.LZMAError, zlib.error) as error:
            raise TableError(f"{self.name}: damaged after line {self._line}: {error}") from error
        except UnicodeDecodeError as error:
            raise TableError(f"{self.name}: not UTF-8 after line {self._line}: {error.reason}") from error
        except OSError as error:
            raise TableError(f"{self.name}: {error.strerror}") from error
        self._line = self._reader.line_num
        return cells


def _decompressed(raw: BinaryIO) -> BinaryIO:
    magic = cast(io.BufferedReader, raw).peek(6)
    if magic.startswith(b"\x1f\x8b"):
        return cast(BinaryIO, gzip.GzipFile(fileobj=raw))
    if magic.startswith(b"\xfd7zXZ\x00"):
        return cast(BinaryIO, lzma.LZMAFile(raw))
    return raw
