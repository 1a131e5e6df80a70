"""The data that a model is trained on: read from a CSV file, or made by the recipe's generator."""

import csv
import gzip
import io
import lzma
import math
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model_bundle import digest
from model_bundle.encoding import Encoder, InvalidRow, Value
from model_export import cell
from model_export.cell import Reader
from model_export.error import ExportError
from model_export.recipe import Columns, Label, Preparation, Recipe, RecipeError, blamed

_OPENERS: dict[str, Callable[..., Any]] = {".gz": gzip.open, ".xz": lzma.open}


class TableError(ExportError):
    """Data that cannot be trained on. The message names the file and, where it is known, line and column."""


@dataclass(frozen=True, slots=True)
class Table:
    """Rows and their targets.

    Attributes
    ----------
    name : str
        The file's name without its folder and ``.gz`` or ``.xz``; or ``generator``.
    digest : str
        Of the file's bytes, decompressed; or of the generated numbers'.
    rows : ndarray of float32, shape (rows, features)
        The codes in the recipe's order, NaN for a missing value. `model_bundle.encoding` made them, as it
        does of what a caller sends.
    targets : ndarray of int8 or float64, shape (rows,)
        Labels, which are 0 or 1; or quantities.
    """

    name: str
    digest: str
    rows: NDArray[np.float32]
    targets: NDArray[Any]


def generate(recipe: Recipe, seed: int) -> Table:
    """Make a recipe's built-in data: the same for the same seed. It is read as a file would be."""
    with blamed(recipe, "generate", recipe.generate):
        columns = recipe.generate(np.random.default_rng(seed), recipe.generated_rows)
        cells = list(zip(*(map(_written, column.tolist()) for column in columns.values()), strict=True))
    values, written = _values(Lines.of_cells("generator", list(columns), cells), recipe)
    rows, targets = _encoded("generator", values, written, recipe)
    exact = rows.astype("<f8")
    for index, feature in enumerate(recipe.features):
        if feature.type == "number":
            exact[:, index] = values[feature.name]
    return Table("generator", digest.of_bytes(exact.tobytes() + targets.tobytes()), rows, targets)


def read(path: Path, recipe: Recipe) -> Table:
    """Read a CSV file: plain, or compressed if its name ends in ``.gz`` or ``.xz``.

    The first line names the columns: those of the recipe and its target, in any order, and perhaps unused
    ones. Empty lines are skipped.

    Raises
    ------
    TableError
        If the file cannot be read; if a column is missing, unknown or there twice; for a row with too many
        or too few values, or a value that is not what its column holds; if there are no rows, or none of one
        of the labels.
    """
    content = content_of(path)
    values, written = _values(Lines.of_content(path, content), recipe)
    rows, targets = _encoded(str(path), values, written, recipe)
    suffixless = path.stem if path.suffix in _OPENERS else path.name
    return Table(suffixless, digest.of_bytes(content), rows, targets)


def _written(value: object) -> str:
    """Return a generated value as a file has it."""
    return "" if value is None or (isinstance(value, float) and math.isnan(value)) else str(value)


def _values(lines: "Lines", recipe: Recipe) -> tuple[dict[str, list[Value]], list[Value]]:
    """Return the values of each feature, NaN or None for a missing one, and the targets."""
    columns = _read_columns(lines, recipe)
    targets = columns[recipe.target.column]
    if not targets:
        raise TableError(f"{lines.source}: no rows below the header")
    if recipe.preparation is not None:
        columns = _prepared(lines.source, columns, recipe.preparation, recipe)
        targets = columns[recipe.target.column]
    if isinstance(recipe.target, Label):
        for value, meaning in enumerate(recipe.target.names):
            if value not in targets:
                raise TableError(
                    f"{lines.source}: no row has {lines.target} {value} ({meaning}): both labels are needed"
                )
    return {feature.name: columns[feature.name] for feature in recipe.features}, targets


def _prepared(
    source: str, columns: dict[str, list[Value]], preparation: Preparation, recipe: Recipe
) -> dict[str, list[Value]]:
    """Return the columns that the recipe makes of the published ones."""
    published: Columns = {name: np.array(values) for name, values in columns.items()}
    with blamed(recipe, "prepare", preparation.prepare):
        try:
            prepared = preparation.prepare(published)
        except ValueError as error:
            raise TableError(f"{source}: {error}") from error
        made = {name: values.tolist() for name, values in prepared.items()}
    wanted = [*(feature.name for feature in recipe.features), recipe.target.column]
    if lacking := [name for name in wanted if name not in made]:
        raise RecipeError(f"recipe {recipe.name}: prepare: it makes no column {', '.join(lacking)}")
    if not made[recipe.target.column]:
        raise TableError(f"{source}: too few rows: none of them has all of its past in the file")
    return made


def _encoded(
    source: str, values: Mapping[str, list[Value]], targets: list[Value], recipe: Recipe
) -> tuple[NDArray[np.float32], NDArray[Any]]:
    """Return the rows as a server would encode them, and the targets."""
    encoder = Encoder(recipe.features)
    rows = np.empty((len(targets), len(recipe.features)), np.float32)
    for index, row in enumerate(zip(*values.values(), strict=True)):
        try:
            encoder.encode_record(dict(zip(values, row, strict=True)))
        except InvalidRow as error:
            raise TableError(f"{source}: row {index + 1}: {error}") from error
        rows[index] = encoder.row
    if isinstance(recipe.target, Label):
        return rows, np.array(targets, np.int8)
    quantities = np.array(targets, np.float64)
    least, allowed = float(quantities.min()), recipe.target.least
    if allowed is not None and least < allowed:
        raise TableError(f"{source}: {recipe.target.column} goes down to {least:g}, below {allowed:g}")
    return rows, quantities


def content_of(path: Path) -> bytes:
    """Return a file's bytes, decompressed."""
    try:
        with _OPENERS.get(path.suffix, open)(path, "rb") as file:
            content: bytes = file.read()
    except (EOFError, lzma.LZMAError, zlib.error, gzip.BadGzipFile) as error:
        raise TableError(f"{path}: not a whole {path.suffix} file: {error}") from error
    except OSError as error:
        raise TableError(f"{path}: {error.strerror or error}") from error
    return content


class Lines:
    """Rows as lists of text, and the place that was reached.

    Attributes
    ----------
    source : str
        Where they come from, for messages.
    header : list of str
    target : str
        The target's column, as the header names it; empty until that is known.
    """

    def __init__(self, source: str, rows: Iterable[Any], line: Callable[[], int]):
        self.source = source
        self._rows = rows
        self._line = line
        self.target = ""
        self.header = [name.strip() for name in next(iter(self), [])]
        if not self.header:
            raise TableError(f"{source}: empty: the first line must name the columns")

    @classmethod
    def of_content(cls, path: Path, content: bytes) -> "Lines":
        """Return the rows of a CSV file."""
        # Bytes that are no UTF-8 become what no header and no number has in it.
        text = io.TextIOWrapper(io.BytesIO(content), "utf-8-sig", errors="replace", newline="")
        rows = csv.reader(text, strict=True)
        return cls(str(path), rows, lambda: rows.line_num)

    @classmethod
    def of_cells(cls, source: str, header: list[str], rows: Iterable[tuple[str, ...]]) -> "Lines":
        """Return rows that are in no file."""
        reached = 0

        def counted() -> Iterator[Any]:
            nonlocal reached
            for row in (header, *rows):
                reached += 1
                yield row

        return cls(source, counted(), lambda: reached)

    def __iter__(self) -> Iterator[list[str]]:
        try:
            yield from filter(None, self._rows)
        except csv.Error as error:
            raise self.error(str(error)) from error

    def error(self, problem: str, column: int | None = None) -> TableError:
        """Return the error of the line that was reached, or of a cell of it."""
        place = "" if column is None else f"column {self.header[column]}: "
        return TableError(f"{self.source}:{self._line()}: {place}{problem}")


def _read_columns(lines: Lines, recipe: Recipe) -> dict[str, list[Value]]:
    """Return each column's values, under the recipe's name for it."""
    readers = _readers(lines, recipe)
    columns: list[list[Value]] = [[] for _ in readers]
    cells = [
        (index, read, columns[index].append) for index, (_, read) in enumerate(readers) if read is not None
    ]
    width = len(readers)
    for row in lines:
        if len(row) != width:
            raise lines.error(f"{_count(len(row), 'value')}, but the header has {_count(width, 'column')}")
        for index, read, append in cells:
            try:
                append(read(row[index]))
            except ValueError as error:
                raise lines.error(str(error), index) from None
    return {name: column for (name, read), column in zip(readers, columns, strict=True) if read is not None}


def _readers(lines: Lines, recipe: Recipe) -> list[tuple[str, Reader | None]]:
    """Return, for each column of the header, the recipe's name for it and what reads it, if anything does."""
    if recipe.preparation is None:
        known = {feature.name: cell.reader(feature) for feature in recipe.features}
    else:
        known = dict(recipe.preparation.columns)
    header = [recipe.aliases.get(name, name) for name in lines.header]
    if twice := sorted({name for name in header if header.count(name) > 1}):
        raise lines.error(f"the header names {listed(twice)} twice")
    targets = [name for name in recipe.target.columns if name in header]
    missing = [name for name in known if name not in header]
    if not targets:
        missing.append(" or ".join(recipe.target.columns))
    unknown = [name for name in header if name not in {*known, *targets[:1], *recipe.unused}]
    if missing or unknown:
        faults = [f"lacks {listed(missing)}"] if missing else []
        faults += [f"has {listed(unknown)}, which {recipe.name} does not know"] if unknown else []
        raise lines.error(f"the header {' and '.join(faults)}")
    lines.target = targets[0]
    read_target = cell.label if isinstance(recipe.target, Label) else cell.number
    return [
        (recipe.target.column, read_target) if name == lines.target else (name, known.get(name))
        for name in header
    ]


def listed(names: list[str]) -> str:
    """Return columns' names as messages show them: the first ones of many."""
    shown = [name if name.isprintable() and name else repr(name) for name in names[:8]]
    return ", ".join(shown) + (f" and {len(names) - 8} more" if len(names) > 8 else "")


def _count(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"
