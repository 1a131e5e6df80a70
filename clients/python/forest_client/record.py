"""From what a file holds to the record that a call carries."""

import json
from collections.abc import Callable, Iterable
from typing import Any

from forest.v1.model_service_pb2 import Feature
from forest.v1.prediction_service_pb2 import Record, Value

_Reader = Callable[[str], float | str | bool]

_FLAGS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


class HeaderError(ValueError):
    """A header that does not fit the model. The message names the columns."""


class RecordError(ValueError):
    """A row, or a JSON text, that is no record. ``faults`` says why, one text for each fault."""

    def __init__(self, faults: list[str]):
        super().__init__("; ".join(faults))
        self.faults = tuple(faults)


class Columns:
    """Which column of a table holds which feature of a model.

    Parameters
    ----------
    header
        The columns' names.
    features
        The model's.

    Attributes
    ----------
    ignored : list of str
        The columns that are no features.
    absent : list of str
        The features without a column, where the model has a rule for missing values.

    Raises
    ------
    HeaderError
        If a feature has no column and may not be missing, or has two.
    """

    def __init__(self, header: list[str], features: Iterable[Feature]):
        self._width = len(header)
        # Each feature's column, name, field of `Value`, and reader.
        self._cells: list[tuple[int, str, str, _Reader]] = []
        self.absent: list[str] = []
        rejected = []
        for feature in features:
            match header.count(feature.name):
                case 0 if feature.missing == Feature.MISSING_IMPUTE:
                    self.absent.append(feature.name)
                case 0:
                    rejected.append(feature.name)
                case 1:
                    self._cells.append((header.index(feature.name), feature.name, *_READERS[feature.type]))
                case count:
                    raise HeaderError(f"{count} columns are named {feature.name}")
        known = {name for _, name, _, _ in self._cells}
        self.ignored = [name for name in header if name not in known]
        if rejected:
            raise HeaderError(
                f"no column for {', '.join(rejected)}: the model scores no row without it"
                + (f" (columns that are no features: {_quoted(self.ignored)})" if self.ignored else "")
            )

    def record(self, cells: list[str]) -> Record:
        """Return a row's record. A blank cell is a missing value.

        Raises
        ------
        RecordError
            With every cell that is not of its feature's type.
        """
        if len(cells) != self._width:
            raise RecordError([f"{len(cells)} cells, but the header has {self._width} columns"])
        record = Record()
        features = record.features
        faults = []
        for index, name, kind, read in self._cells:
            cell = cells[index]
            if cell and not cell.isspace():
                try:
                    setattr(features[name], kind, read(cell))
                except ValueError as error:
                    faults.append(f"{name}: {error}")
        if faults:
            raise RecordError(faults)
        return record


def record_of_json(text: str) -> Record:
    """Return the record that a JSON object of features is: ``{"Time": 0, "V1": -1.36}``.

    A number, a text, true or false by its JSON type; null is a missing value. Whether these fit the model,
    the server says.

    Raises
    ------
    RecordError
        If it is not such an object, or names a feature twice.
    """
    try:
        document = json.loads(text, object_pairs_hook=_object)
    except RecursionError as error:
        raise RecordError(["nested too deeply"]) from error
    except json.JSONDecodeError as error:
        raise RecordError([f"not JSON: {error}"]) from error
    if not isinstance(document, dict):
        raise RecordError(["not a JSON object of features"])
    record = Record()
    for name, item in document.items():
        if item is not None:
            record.features[name].CopyFrom(_value(name, item))
    return record


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    document = dict(pairs)
    if len(document) < len(pairs):
        names = [name for name, _ in pairs]
        raise RecordError([f"{name}: twice" for name in document if names.count(name) > 1])
    return document


def _value(name: str, item: Any) -> Value:
    match item:
        case bool():
            return Value(flag=item)
        case int() | float():
            try:
                return Value(number=item)
            except (ValueError, OverflowError) as error:
                raise RecordError([f"{name}: {error}"]) from error
        case str():
            return Value(text=item)
    raise RecordError([f"{name}: a number, a text, true, false or null is expected"])


def _number(cell: str) -> float:
    # float() also reads 1_000 and the digits of every script: in a file these are mistakes.
    if cell.isascii() and "_" not in cell:
        try:
            return float(cell)
        except ValueError:
            pass
    raise ValueError(f"{cell!r} is not a number")


def _text(cell: str) -> str:
    return cell


def _flag(cell: str) -> bool:
    try:
        return _FLAGS[cell.strip().lower()]
    except KeyError:
        raise ValueError(f"{cell!r} is not a flag: true, false, yes, no, 1 or 0") from None


def _quoted(names: list[str]) -> str:
    return ", ".join(map(repr, names))


_READERS: dict[int, tuple[str, _Reader]] = {
    Feature.TYPE_NUMBER: ("number", _number),
    Feature.TYPE_CATEGORY: ("text", _text),
    Feature.TYPE_FLAG: ("flag", _flag),
}
