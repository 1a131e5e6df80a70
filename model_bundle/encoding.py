"""From a row as a caller has it to the float32 vector that the graph takes: one way, export and server alike.

A row comes by name (a record) or by position (a vector, or many of them as a matrix). Either way it is cast
to float32 once, here, and every value is checked against the manifest's rules. The usual row, complete and
within the ranges of training, takes a path without a Python loop; any other is looked at feature by feature,
to say all that is wrong with it.
"""

import math
import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from operator import itemgetter
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from model_bundle.manifest import Feature

Value = float | str | bool | None
Reason = Literal[
    "UNKNOWN_FEATURE",
    "MISSING_FEATURE",
    "MISSING_VALUE",
    "WRONG_TYPE",
    "WRONG_LENGTH",
    "UNKNOWN_CATEGORY",
    "NOT_FINITE",
    "OUT_OF_RANGE",
]

# So many rows are laid end to end where many are looked at, if there are so many at least.
_FOLD, _FEWEST_FOLDED = 16, 128

_OUTSIDE = "outside the range of training,"
_FLOAT32_MAX = float(np.finfo(np.float32).max)
_PYTHON_TYPES = {"number": float, "category": str, "flag": bool}
_KINDS = {"number": "number", "category": "text", "flag": "flag"}


@dataclass(frozen=True, slots=True)
class Violation:
    """A fault of a row. ``feature`` is empty if it is the whole row's."""

    feature: str
    reason: Reason
    message: str


@dataclass(frozen=True, slots=True)
class OutOfTrainingRange:
    """A value that is odd but allowed."""

    feature: str
    message: str


@dataclass(frozen=True, slots=True)
class OddRows:
    """Values of one feature that are odd but allowed.

    Attributes
    ----------
    rows : ndarray of intp, shape (odd rows,)
        Which rows have them, ascending.
    """

    feature: str
    message: str
    rows: NDArray[np.intp]


class InvalidRow(ValueError):  # noqa: N818 - it is the row that is invalid
    """A row that cannot be scored, with every fault found in it."""

    def __init__(self, violations: list[Violation]):
        super().__init__("; ".join(violation.message for violation in violations))
        self.violations = violations


@dataclass(slots=True)
class Faults:
    """The faults of many rows: all are counted, and the first are kept.

    Attributes
    ----------
    kept : list of (int, Violation)
        Each with its row.
    count : int
        How many there are, those not kept included.
    """

    most: int = 100
    kept: list[tuple[int, Violation]] = field(default_factory=list)
    count: int = 0

    def add(self, row: int, violations: Iterable[Violation]) -> None:
        """Add a row's faults."""
        for violation in violations:
            self.count += 1
            if len(self.kept) < self.most:
                self.kept.append((row, violation))


class InvalidRows(ValueError):  # noqa: N818 - it is the rows that are invalid
    """Rows of which some cannot be scored, with their faults."""

    def __init__(self, faults: Faults):
        super().__init__("; ".join(f"row {row}: {violation.message}" for row, violation in faults.kept))
        self.faults = faults


class Encoder:
    """Encodes one row at a time into `row`.

    Parameters
    ----------
    features
        The manifest's features, in order.

    Attributes
    ----------
    row : ndarray of float32, shape (features,)
        The row encoded last. The same memory for the encoder's whole life, so a session can be bound to it.
        An encoder therefore belongs to one thread at a time.
    kinds : tuple of (str, str)
        Each feature's name, in order, with what its value is: ``number``, ``text`` or ``flag``.
    """

    def __init__(self, features: tuple[Feature, ...]):
        self.features = features
        count = len(features)
        self._bytes = bytearray(4 * count)
        self.row: NDArray[np.float32] = np.frombuffer(self._bytes, np.float32)
        self._pack_into = struct.Struct(f"={count}f").pack_into
        self._names = {feature.name: index for index, feature in enumerate(features)}
        names = [feature.name for feature in features]
        self.kinds = tuple((feature.name, _KINDS[feature.type]) for feature in features)
        # itemgetter answers a bare item, not a tuple, for a single name.
        self._pick = itemgetter(*names) if count > 1 else lambda record: (record[names[0]],)
        self._types = tuple(_PYTHON_TYPES[feature.type] for feature in features)
        # A flag needs no table: it is packed as 0 or 1.
        self._codes = [
            (index, category_codes(feature))
            for index, feature in enumerate(features)
            if feature.type == "category"
        ]
        bounds = np.array([_bounds(feature) for feature in features], np.float32)
        self._low, self._high = np.ascontiguousarray(bounds[:, 0]), np.ascontiguousarray(bounds[:, 1])
        self._discrete = np.array([feature.type != "number" for feature in features])
        self._any_discrete = bool(self._discrete.any())
        self._rounded = np.empty(count, np.float32)
        # All comparisons write into one piece of memory, so that one comparison of bytes answers for all.
        self._right = bytearray([1] * (3 * count))
        self._all_right = bytes(self._right)
        right = np.frombuffer(self._right, np.bool_)
        self._above_low, self._below_high, self._whole = right[:count], right[count:-count], right[-count:]

    def encode_record(self, record: Mapping[str, Value]) -> list[OutOfTrainingRange]:
        """Encode a row by name.

        Parameters
        ----------
        record
            A value for each feature: a float for a number, text for a category, a bool for a flag. A
            feature that is absent or None, or a number that is NaN, is a missing value.

        Returns
        -------
        list of OutOfTrainingRange
            What is odd about the row.

        Raises
        ------
        InvalidRow
            With every fault of the row.
        """
        try:
            values = self._pick(record)
        except KeyError:
            values = ()
        if len(record) == len(values) and tuple(map(type, values)) == self._types:
            return self.encode_values(values)
        return self._encode_carefully(record)

    def encode_values(self, values: Sequence[Value]) -> list[OutOfTrainingRange]:
        """Encode a complete row, in order.

        Parameters
        ----------
        values
            A value for each feature, of its type as `encode_record` says; none is missing.

        Returns
        -------
        list of OutOfTrainingRange
            What is odd about the row.

        Raises
        ------
        InvalidRow
            With every fault of the row.
        """
        try:
            if self._codes:
                coded: list[Any] = list(values)
                for index, codes in self._codes:
                    coded[index] = codes[coded[index]]
                self._pack_into(self._bytes, 0, *coded)
            else:
                self._pack_into(self._bytes, 0, *values)
        except (KeyError, OverflowError):
            return self._encode_carefully(dict(zip(self._names, values, strict=True)))
        return self._check()

    def encode_vector(self, values: Sequence[float]) -> list[OutOfTrainingRange]:
        """Encode a row by position.

        Parameters
        ----------
        values
            A number for each feature in order: a category's code, 0 or 1 for a flag, NaN for a missing value.

        Returns
        -------
        list of OutOfTrainingRange
            What is odd about the row.

        Raises
        ------
        InvalidRow
            With every fault of the row.
        """
        if len(values) != len(self.features):
            # Before they are read: there may be a million.
            raise InvalidRow(
                [
                    Violation(
                        "",
                        "WRONG_LENGTH",
                        f"{len(values)} values, but the model has {len(self.features)} features: "
                        "GetModel lists them in order",
                    )
                ]
            )
        try:
            self._pack_into(self._bytes, 0, *values)
        except OverflowError:
            self.row[:] = [_float32(value) for value in values]
        if self._any_discrete:
            np.rint(self.row, self._rounded)
            np.equal(self.row, self._rounded, self._whole, where=self._discrete)
        return self._check()

    def check_matrix(self, matrix: NDArray[np.float32]) -> list[OddRows]:
        """Check many rows by position. The encoder's own memory is not used: any thread may call this.

        Parameters
        ----------
        matrix : ndarray of float32, shape (rows, features)
            Each row as `encode_vector` takes it, there being one at least.

        Returns
        -------
        list of OddRows
            What is odd about the rows, by feature.

        Raises
        ------
        InvalidRows
            With the faults of all rows.
        """
        # A column whose least and greatest are right holds nothing else. If it has a NaN, both are NaN.
        right = _reduced(np.minimum, matrix) >= self._low
        right &= _reduced(np.maximum, matrix) <= self._high
        if self._any_discrete:
            right &= _reduced(np.logical_and, np.rint(matrix) == matrix) | ~self._discrete
        if right.all():
            return []
        wrong: list[tuple[NDArray[np.intp], int]] = []
        odd = []
        for column in np.flatnonzero(~right).tolist():
            faulty, unusual = self._sort_out(column, matrix[:, column])
            if faulty.size:
                wrong.append((faulty, column))
            if unusual.size:
                feature = self.features[column]
                odd.append(OddRows(feature.name, f"{feature.name}: {_OUTSIDE} {_span(feature)}", unusual))
        if wrong:
            raise InvalidRows(self._faults(matrix, wrong))
        return odd

    def record(self, row: Iterable[float]) -> dict[str, Value]:
        """Return the record that a row by position is, as `encode_record` takes it.

        Parameters
        ----------
        row
            A right code for each feature in order, NaN for a missing value.
        """
        return {feature.name: _value(feature, code) for feature, code in zip(self.features, row, strict=True)}

    def _check(self) -> list[OutOfTrainingRange]:
        row = self.row
        np.greater_equal(row, self._low, self._above_low)
        np.less_equal(row, self._high, self._below_high)
        if self._right == self._all_right:
            return []
        return self._explain()

    def _explain(self) -> list[OutOfTrainingRange]:
        """Look at every value of a row that is not plainly right."""
        self._whole[:] = True
        violations: list[Violation] = []
        odd: list[OutOfTrainingRange] = []
        for index, value in enumerate(self.row.tolist()):
            found = self._judge(index, value)
            if isinstance(found, Violation):
                violations.append(found)
            elif found:
                odd.append(found)
        if violations:
            raise InvalidRow(violations)
        return odd

    def _judge(self, index: int, value: float) -> Violation | OutOfTrainingRange | None:
        """Return what is wrong or odd about a feature's value."""
        feature = self.features[index]
        if math.isnan(value):
            return missing_value(feature, "MISSING_VALUE") if feature.missing == "reject" else None
        if math.isinf(value):
            return Violation(feature.name, "NOT_FINITE", f"{feature.name}: infinite, or beyond float32")
        if feature.type != "number":
            return None if value in range(len(feature.categories) or 2) else _wrong_code(feature, value)
        if self._low[index] <= value <= self._high[index]:
            return None
        place = f"{feature.name}: {value:g} is outside the range"
        if feature.out_of_range == "reject":
            return Violation(feature.name, "OUT_OF_RANGE", f"{place} allowed, {_span(feature)}")
        return OutOfTrainingRange(feature.name, f"{place} of training, {_span(feature)}")

    def _sort_out(self, index: int, values: NDArray[np.float32]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Return the rows in which `_judge` finds a feature's value wrong, and those with an odd one."""
        feature = self.features[index]
        if feature.type == "number":
            outside = (values < self._low[index]) | (values > self._high[index])
            wrong = outside if feature.out_of_range == "reject" else np.isinf(values)
        else:
            last = (len(feature.categories) or 2) - 1
            outside = wrong = (values < 0) | (values > last) | (np.rint(values) != values)
        missing = np.isnan(values)
        # A comparison with NaN is false, but for "not equal".
        wrong = wrong | missing if feature.missing == "reject" else wrong & ~missing
        return np.flatnonzero(wrong), np.flatnonzero(outside & ~wrong & ~missing)

    def _faults(self, matrix: NDArray[np.float32], wrong: list[tuple[NDArray[np.intp], int]]) -> Faults:
        """Return the faults of a matrix: row by row, and in a row in the features' order."""
        rows = np.concatenate([rows for rows, _ in wrong])
        columns = np.repeat([column for _, column in wrong], [rows.size for rows, _ in wrong])
        faults = Faults(count=rows.size)
        for place in np.lexsort((columns, rows))[: faults.most].tolist():
            row, column = int(rows[place]), int(columns[place])
            found = self._judge(column, float(matrix[row, column]))
            if isinstance(found, Violation):
                faults.kept.append((row, found))
        return faults

    def _encode_carefully(self, record: Mapping[str, Value]) -> list[OutOfTrainingRange]:
        """Encode a record that is not plainly right, or say what is wrong with it."""
        violations = [unknown_feature(name) for name in sorted(record.keys() - self._names.keys())]
        codes = []
        for feature in self.features:
            code = _code(feature, record.get(feature.name))
            if isinstance(code, Violation):
                violations.append(code)
            else:
                codes.append(code)
        if violations:
            raise InvalidRow(violations)
        self._pack_into(self._bytes, 0, *codes)
        return self._check()


def _reduced(function: np.ufunc, matrix: NDArray[Any]) -> NDArray[Any]:
    """Return a function's reduction of each column: its least value, its greatest, whether all of it is true.

    numpy takes a row at a time, and is fast at long ones: so there are rows laid end to end at first.
    """
    rows, columns = matrix.shape
    folded = rows - rows % _FOLD
    if rows < _FEWEST_FOLDED:
        return np.asarray(function.reduce(matrix))
    parts = function.reduce(matrix[:folded].reshape(-1, _FOLD * columns)).reshape(_FOLD, columns)
    return np.asarray(function.reduce(np.concatenate((parts, matrix[folded:]))))


def category_codes(feature: Feature) -> dict[str, float]:
    """Return the code of each category of a feature."""
    return {category: float(code) for code, category in enumerate(feature.categories)}


def unknown_category(feature: Feature, text: str) -> Violation:
    """Return the fault of a text that is no category of a feature."""
    known = ", ".join(map(repr, feature.categories))
    return Violation(feature.name, "UNKNOWN_CATEGORY", f"{feature.name}: {_shown(text)} is none of {known}")


def unknown_feature(name: str) -> Violation:
    """Return the fault of a name that no feature of a model has."""
    return Violation(name, "UNKNOWN_FEATURE", f"{_shortened(name)}: the model has no such feature")


def missing_value(feature: Feature, reason: Literal["MISSING_FEATURE", "MISSING_VALUE"]) -> Violation:
    """Return the fault of a value that is missing, the feature having no rule for that."""
    return Violation(feature.name, reason, f"{feature.name}: missing, and the model has no rule for that")


def _bounds(feature: Feature) -> tuple[float, float]:
    """Return the inclusive range of codes that need no second look."""
    if feature.type != "number":
        return 0, (len(feature.categories) or 2) - 1
    if feature.minimum is None or feature.maximum is None:
        return -_FLOAT32_MAX, _FLOAT32_MAX
    return feature.minimum, feature.maximum


def _value(feature: Feature, code: float) -> Value:
    """Return what a code stands for."""
    if math.isnan(code):
        return None
    if feature.type == "flag":
        return bool(code)
    return code if feature.type == "number" else feature.categories[int(code)]


def _code(feature: Feature, value: Value) -> float | Violation:
    """Return a value's code, or what is wrong with it."""
    name = feature.name
    if value is None:
        return math.nan if feature.missing == "impute" else missing_value(feature, "MISSING_FEATURE")
    if feature.type == "number":
        if isinstance(value, bool) or not isinstance(value, float | int):
            return _wrong_type(feature, "a number", value)
        number = _float32(value)
        if math.isinf(number):
            return Violation(name, "NOT_FINITE", f"{name}: {_shown(value)} is infinite, or beyond float32")
        if math.isnan(number) and feature.missing == "reject":
            return missing_value(feature, "MISSING_VALUE")
        return number
    if feature.type == "flag":
        return float(value) if isinstance(value, bool) else _wrong_type(feature, "a flag", value)
    if not isinstance(value, str):
        return _wrong_type(feature, "text", value)
    if value not in feature.categories:
        return unknown_category(feature, value)
    return float(feature.categories.index(value))


def _span(feature: Feature) -> str:
    return f"{feature.minimum:g} to {feature.maximum:g}"


def _float32(value: float) -> float:
    try:
        with np.errstate(over="ignore"):
            return float(np.float32(value))
    except OverflowError:  # a whole number beyond float64
        return math.inf if value > 0 else -math.inf


def _wrong_type(feature: Feature, expected: str, value: Value) -> Violation:
    return Violation(feature.name, "WRONG_TYPE", f"{feature.name}: expects {expected}, not {_shown(value)}")


def _wrong_code(feature: Feature, value: float) -> Violation:
    last = (len(feature.categories) or 2) - 1
    return Violation(
        feature.name, "UNKNOWN_CATEGORY", f"{feature.name}: {value:g} is no code, which are 0 to {last}"
    )


def _shown(value: Value) -> str:
    """Return a value as messages show it."""
    return _shortened(repr(value))


def _shortened(text: str) -> str:
    """Return the beginning of a long text: a caller's own is not echoed without bound."""
    return text if len(text) <= 50 else text[:47] + "..."
