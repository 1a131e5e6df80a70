"""Rows as somebody has them: read from a CSV file, and encoded as a server would.

A server refuses a row with an unknown category or without a value that it needs. Here such a row counts: that
there are many of them is drift.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from model_bundle.encoding import Encoder, InvalidRow, Value
from model_bundle.manifest import Feature, Manifest
from model_export import cell, recipe, table
from model_export.cell import Reader
from model_export.recipe import Recipe, RecipeError
from model_export.table import Lines, TableError

_MOST_UNKNOWN = 5
# Of an audit log no more than twice as many rows are compared: a report knows no better by more.
_MOST_RECORDS = 50_000


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows of one source.

    Attributes
    ----------
    source : str
        The file's name without its folder; or from when to when an audit log's records are.
    matrix : ndarray of float32, shape (rows, features)
        The codes in the model's order, NaN for a missing value. An unknown value of a category or a flag has
        the code after the last.
    refused : ndarray of bool, shape (rows,)
        Whether a server would refuse the row.
    unknown : dict
        For each feature with unknown values the commonest of these, with how many rows have each.
    unused : tuple of str
        Columns that are none of the model's.
    """

    source: str
    matrix: NDArray[np.float32]
    refused: NDArray[np.bool_]
    unknown: Mapping[str, Mapping[str, int]]
    unused: tuple[str, ...]


def read(path: Path, manifest: Manifest) -> Rows:
    """Read a CSV file: plain, or compressed if its name ends in ``.gz`` or ``.xz``.

    The first line names the columns. They are the model's features, in any order, perhaps under a name that
    the model's recipe knows for them; or they are what the recipe makes the features of. Other columns are
    not used.

    Raises
    ------
    TableError
        If the file cannot be read, has no rows, or lacks a feature; for a row with too many or too few
        values, or text where a number is needed.
    """
    lines = Lines.of_content(path, table.content_of(path))
    known = _recipe(manifest)
    aliases = {} if known is None else known.aliases
    header = [aliases.get(name, name) for name in lines.header]
    if lacking := [feature.name for feature in manifest.features if feature.name not in header]:
        if known is None or known.preparation is None:
            raise lines.error(f"the header lacks {table.listed(lacking)}, which {manifest.model} needs")
        return _prepared(path, known)
    names = [feature.name for feature in manifest.features]
    if twice := sorted({name for name in names if header.count(name) > 1}):
        raise lines.error(f"the header names {table.listed(twice)} twice")
    unused = tuple(name for name in header if name not in names)
    return _encoded(path, _records(lines, header, manifest.features), manifest.features, unused)


def read_audit(path: Path, manifest: Manifest, hours: float | None = None) -> Rows:
    """Read a server's audit log: a folder of its files, of which the closed ones are read, or one of them.

    Parameters
    ----------
    manifest
        Only records of its model and version are read.
    hours
        Only those that were recorded within so many hours before now; None for all.

    Returns
    -------
    Rows
        Those of many records are some of them, evenly spread, and the source says so.

    Raises
    ------
    TableError
        If there is no such record, or one that is none; if they have no inputs, or not all features.
    """
    begin = None if hours is None else datetime.now(UTC) - timedelta(hours=hours)
    kept: list[dict[str, Value]] = []
    found, every = 0, 1
    first = last = ""
    for record in _audited(path, manifest, begin):
        time = record["time"]
        first, last = min(first or time, time), max(last, time)
        if found % every == 0:
            kept.append(record["inputs"])
            if len(kept) > 2 * _MOST_RECORDS:
                kept, every = kept[::2], 2 * every
        found += 1
    if not kept:
        span = "" if hours is None else f", within {hours:g} hours,"
        unread = len(list(path.glob("*.jsonl.open")))
        raise TableError(
            f"{path}: no record{span} of {manifest.model} {manifest.version} with its inputs"
            + (f" in closed files; {unread} are still open" if unread else "")
        )
    # In any of them: of a log that was redacted from some day on, the rest is no fair sample.
    if lacking := [
        feature.name for feature in manifest.features if any(feature.name not in inputs for inputs in kept)
    ]:
        raise TableError(f"{path}: records have no {table.listed(lacking)}, which may be redacted")
    rows = _encoded(path, kept, manifest.features, ())
    part = f", one in {every} of {found}" if every > 1 else ""
    return replace(rows, source=f"audit log of {first[:16]}Z to {last[:16]}Z{part}")


def _audited(path: Path, manifest: Manifest, begin: datetime | None) -> Iterator[dict[str, Any]]:
    """Return the records of a bundle's model and version that have inputs, and are no older."""
    since = f"{begin:%Y-%m-%dT%H:%M:%S.%fZ}" if begin else ""
    for file in sorted(path.glob("[!.]*.jsonl")) if path.is_dir() else [path]:
        if begin and file.stat().st_mtime < begin.timestamp():
            # It was closed before.
            continue
        with file.open("rb") as lines:
            for number, line in enumerate(lines, 1):
                try:
                    record = orjson.loads(line)
                    if (record["model"], record["version"]) != (manifest.model, manifest.version):
                        continue
                    if record["time"] >= since and "inputs" in record:
                        yield record
                except (orjson.JSONDecodeError, LookupError, TypeError) as error:
                    raise TableError(f"{file}:{number}: no record of an audit log") from error


def _recipe(manifest: Manifest) -> Recipe | None:
    """Return the recipe that a model was made by, if it is one of those that are here."""
    try:
        return recipe.find(manifest.lineage.recipe)
    except RecipeError:
        return None


def _prepared(path: Path, known: Recipe) -> Rows:
    """Return the rows that a recipe makes of the published columns. No server would refuse any of them."""
    matrix = table.read(path, known).rows
    return Rows(path.name, matrix, np.zeros(len(matrix), np.bool_), {}, ())


def _records(lines: Lines, header: list[str], features: tuple[Feature, ...]) -> Iterable[dict[str, Value]]:
    cells: list[tuple[str, int, Reader]] = [
        (feature.name, header.index(feature.name), _reader(feature)) for feature in features
    ]
    for row in lines:
        if len(row) != len(header):
            raise lines.error(f"it has {len(row)} values, but the header has {len(header)} columns")
        record: dict[str, Value] = {}
        for name, index, read_cell in cells:
            try:
                record[name] = read_cell(row[index])
            except ValueError as error:
                raise lines.error(str(error), index) from None
        yield record


def _reader(feature: Feature) -> Reader:
    """Return what reads a feature's cells: None for a blank one, and unknown text as it is."""
    if feature.type == "number":
        return lambda text: cell.number(text) if text.strip() else None
    strict = cell.reader(replace(feature, missing="reject"))

    def read_cell(text: str) -> Value:
        try:
            return strict(text)
        except ValueError:
            return text if text.strip() else None

    return read_cell


def _encoded(
    path: Path,
    records: Iterable[dict[str, Value]],
    features: tuple[Feature, ...],
    unused: tuple[str, ...],
) -> Rows:
    server = Encoder(features)
    # Takes what a server would refuse, but for unknown values.
    lenient = Encoder(tuple(replace(feature, missing="impute", out_of_range="warn") for feature in features))
    places = {feature.name: index for index, feature in enumerate(features)}
    rows: list[NDArray[np.float32]] = []
    refused: list[bool] = []
    unknown: dict[str, Counter[str]] = {}
    for record in records:
        try:
            server.encode_record(record)
        except InvalidRow as error:
            strange = [
                violation.feature
                for violation in error.violations
                if violation.reason in {"UNKNOWN_CATEGORY", "WRONG_TYPE"}
            ]
            lenient.encode_record(record | dict.fromkeys(strange))
            row = lenient.row.copy()
            for name in strange:
                unknown.setdefault(name, Counter())[str(record[name])] += 1
                row[places[name]] = len(features[places[name]].categories) or 2
            rows.append(row)
            refused.append(True)
        else:
            rows.append(server.row.copy())
            refused.append(False)
    if not rows:
        raise TableError(f"{path}: no rows below the header")
    return Rows(
        path.name,
        np.array(rows),
        np.array(refused),
        {name: dict(counter.most_common(_MOST_UNKNOWN)) for name, counter in unknown.items()},
        unused,
    )
