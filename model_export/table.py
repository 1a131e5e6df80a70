"""The data that a model is trained on: read from a CSV file, or made by the recipe's generator."""

import csv
import gzip
import io
import lzma
import math
import zlib
from array import array
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model_bundle import digest
from model_export.error import ExportError
from model_export.recipe import Recipe

_OPENERS: dict[str, Callable[..., Any]] = {".gz": gzip.open, ".xz": lzma.open}
_FLOAT32_MAX = float(np.finfo(np.float32).max)


class TableError(ExportError):
    """Data that cannot be trained on. The message names the file and, where it is known, line and column."""


@dataclass(frozen=True, slots=True)
class Table:
    """Rows and their labels.

    Attributes
    ----------
    name : str
        The file's name without its folder and ``.gz`` or ``.xz``; or ``generator``.
    digest : str
        Of the file's bytes, decompressed; or of the generated numbers'.
    rows : ndarray of float32, shape (rows, features)
        The values in the recipe's order. They were cast to float32 here, once.
    labels : ndarray of int8, shape (rows,)
        0 or 1.
    """

    name: str
    digest: str
    rows: NDArray[np.float32]
    labels: NDArray[np.int8]


def generate(recipe: Recipe, seed: int) -> Table:
    """Make a recipe's built-in data: the same for the same seed."""
    rows, labels = recipe.generate(np.random.default_rng(seed), recipe.generated_rows)
    content = rows.astype("<f8").tobytes() + labels.tobytes()
    return Table("generator", digest.of_bytes(content), rows.astype(np.float32), labels)


def read(path: Path, recipe: Recipe) -> Table:
    """Read a CSV file: plain, or compressed if its name ends in ``.gz`` or ``.xz``.

    The first line names the columns: the recipe's features and its label, in any order. Empty lines are
    skipped.

    Raises
    ------
    TableError
        If the file cannot be read; if a column is missing, unknown or there twice; for a row with too many
        or too few values, a value that is blank or no finite number, a label that is not 0 or 1; if there
        are no rows, or none of one of the labels.
    """
    content = _content(path)
    lines = _Lines(path, content)
    order, label_index = _columns(lines, recipe)
    matrix = _matrix(lines)
    # Python reads 1_000 as a number, which CSV does not have.
    if matrix is None or b"_" in content.partition(b"\n")[2] or not _is_right(matrix, label_index):
        _refuse_first_fault(_Lines(path, content), label_index)
    assert matrix is not None  # noqa: S101 - else a fault was found
    labels = matrix[:, label_index]
    if not labels.size:
        raise TableError(f"{path}: no rows below the header")
    for value, meaning in enumerate(recipe.labels):
        if not (labels == value).any():
            column = lines.header[label_index]
            raise TableError(f"{path}: no row has {column} {value} ({meaning}): both labels are needed")
    suffixless = path.stem if path.suffix in _OPENERS else path.name
    rows = np.ascontiguousarray(matrix[:, order], np.float32)
    return Table(suffixless, digest.of_bytes(content), rows, labels.astype(np.int8))


def _matrix(lines: "_Lines") -> NDArray[np.float64] | None:
    """Return all numbers, or None if a row has too many or too few, or any that is none."""
    width = len(lines.header)
    values = array("d")
    for row in lines:
        try:
            values.extend(map(float, row))
        except ValueError:
            return None
        if len(row) != width:
            return None
    return np.frombuffer(values, np.float64).reshape(-1, width)


def _is_right(matrix: NDArray[np.float64], label: int) -> bool:
    return bool((np.abs(matrix) <= _FLOAT32_MAX).all() and np.isin(matrix[:, label], (0, 1)).all())


def _content(path: Path) -> bytes:
    """Return a file's bytes, decompressed."""
    try:
        with _OPENERS.get(path.suffix, open)(path, "rb") as file:
            content: bytes = file.read()
    except (EOFError, lzma.LZMAError, zlib.error, gzip.BadGzipFile) as error:
        raise TableError(f"{path}: not a whole {path.suffix} file: {error}") from error
    except OSError as error:
        raise TableError(f"{path}: {error.strerror or error}") from error
    return content


class _Lines:
    """A file's rows as lists of text, and the place in the file that was reached."""

    def __init__(self, path: Path, content: bytes):
        self._path = path
        # Bytes that are no UTF-8 become what no header and no number has in it.
        text = io.TextIOWrapper(io.BytesIO(content), "utf-8-sig", errors="replace", newline="")
        self._reader = csv.reader(text, strict=True)
        self.header = [name.strip() for name in next(iter(self), [])]
        if not self.header:
            raise TableError(f"{path}: empty: the first line must name the columns")

    def __iter__(self) -> Iterator[list[str]]:
        try:
            yield from filter(None, self._reader)
        except csv.Error as error:
            raise self.error(str(error)) from error

    def error(self, problem: str, column: int | None = None) -> TableError:
        place = "" if column is None else f"column {self.header[column]}: "
        return TableError(f"{self._path}:{self._reader.line_num}: {place}{problem}")


def _columns(lines: _Lines, recipe: Recipe) -> tuple[list[int], int]:
    """Return each feature's place in the header, in the recipe's order, and the label's."""
    header = lines.header
    if twice := sorted({name for name in header if header.count(name) > 1}):
        raise lines.error(f"the header names {_names(twice)} twice")
    label = [name for name in recipe.label_columns if name in header]
    expected = [feature.name for feature in recipe.features]
    missing = [name for name in expected if name not in header]
    if not label:
        missing.append(" or ".join(recipe.label_columns))
    unknown = [name for name in header if name not in {*expected, *label[:1]}]
    if missing or unknown:
        faults = [f"lacks {_names(missing)}"] if missing else []
        faults += [f"has {_names(unknown)}, which {recipe.name} does not know"] if unknown else []
        raise lines.error(f"the header {' and '.join(faults)}")
    return [header.index(name) for name in expected], header.index(label[0])


def _refuse_first_fault(lines: _Lines, label: int) -> None:
    """Raise what is wrong with the first row that is not right, if there is one."""
    width = len(lines.header)
    for row in lines:
        if len(row) != width:
            raise lines.error(f"{_count(len(row), 'value')}, but the header has {_count(width, 'column')}")
        for column, text in enumerate(row):
            if problem := _problem(text, is_label=column == label):
                raise lines.error(problem, column)


def _problem(text: str, *, is_label: bool) -> str | None:
    """Return what is wrong with a value."""
    if not text.strip():
        return "blank, and a value is needed"
    try:
        number = float(text.replace("_", " "))
    except ValueError:
        return f"{_shown(text)} is no number"
    if not math.isfinite(number):
        return f"{_shown(text)} is no finite number"
    if abs(number) > _FLOAT32_MAX:
        return f"{_shown(text)} is beyond float32"
    if is_label and number not in (0, 1):
        return f"{_shown(text)} is no label: 0 or 1"
    return None


def _names(names: list[str]) -> str:
    shown = [name if name.isprintable() and name else repr(name) for name in names[:8]]
    return ", ".join(shown) + (f" and {len(names) - 8} more" if len(names) > 8 else "")


def _count(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"


def _shown(text: str) -> str:
    shown = repr(text)
    return shown if len(shown) <= 50 else shown[:47] + "..."
