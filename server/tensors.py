"""From the tensors of an inference request to what a model's graph takes: one for each feature, or one."""

from collections.abc import Generator
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from inference.grpc_service_pb2 import ModelInferRequest
from numpy.typing import NDArray

from model_bundle.encoding import (
    Encoder,
    Faults,
    Violation,
    category_codes,
    missing_value,
    unknown_category,
    unknown_feature,
)
from model_bundle.manifest import Feature
from server import rows
from server.call import Call
from server.status import StatusError, invalid_fields, invalid_request, late

MATRIX = "matrix"
"""The input that has every feature, by position; unless the model has a feature of this name."""
DATATYPES = {"number": "FP32", "category": "BYTES", "flag": "BOOL"}
"""The datatype of a feature's tensor, by the feature's type. A number may come as any other as well."""


class _Elements(NamedTuple):
    """How a datatype's elements come: as which kind in raw contents, and in which field of typed ones."""

    raw: str
    field: str


_NUMBERS = {
    "FP32": _Elements("<f4", "fp32_contents"),
    "FP64": _Elements("<f8", "fp64_contents"),
    "INT8": _Elements("<i1", "int_contents"),
    "INT16": _Elements("<i2", "int_contents"),
    "INT32": _Elements("<i4", "int_contents"),
    "INT64": _Elements("<i8", "int64_contents"),
    "UINT8": _Elements("<u1", "uint_contents"),
    "UINT16": _Elements("<u2", "uint_contents"),
    "UINT32": _Elements("<u4", "uint_contents"),
    "UINT64": _Elements("<u8", "uint64_contents"),
}
_TAKEN = {
    "number": _NUMBERS,
    # Of these each raw element has its length before it.
    "category": {"BYTES": _Elements("", "bytes_contents")},
    # As its byte: what is neither 0 nor 1 is found where codes are checked.
    "flag": {"BOOL": _Elements("<u1", "bool_contents")},
}
_EXPECTED = {"number": "FP32, FP64 or an integer", "category": "BYTES", "flag": "BOOL"}
_LENGTH_BYTES = 4
# Texts that are read in one step: it takes a millisecond or two.
_STEP = 4096
# No category has it, and no model takes it.
_UNKNOWN = -1.0
MOST_FAULTS = 100
"""So many faults in names and the like are looked for."""
SHOWN = 64
"""So many characters of a caller's own text are told."""


class _Found(NamedTuple):
    """A tensor that is right as far as can be told without reading it."""

    place: int
    elements: _Elements


class Tensors:
    """The inputs of a request, looked at. Their elements are read by `decode`.

    Parameters
    ----------
    request
        The request.
    encoder
        The model's. It is not written to.
    most_rows
        How many rows a request may have.

    Attributes
    ----------
    rows : int
        How many rows there are: one at least.

    Raises
    ------
    StatusError
        INVALID_ARGUMENT, with every fault in the names, datatypes, shapes and sizes.
    """

    def __init__(self, request: ModelInferRequest, encoder: Encoder, most_rows: int):
        self._request = request
        self._features = encoder.features
        self._names = {feature.name: index for index, feature in enumerate(encoder.features)}
        self._most_rows = most_rows
        self._raw = list(request.raw_input_contents)
        self._unknown: dict[tuple[int, str], Violation] = {}
        self._faults: list[tuple[str, str, str]] = []
        self._matrix: _Found | None = None
        self._columns: list[tuple[int, _Found]] = []
        self._first = ""
        self.rows = 0
        self._look()
        if self._faults:
            raise invalid_fields(self._faults)

    def decode(self, call: Call) -> Generator[None, None, NDArray[np.float32]]:
        """Return the rows in feature order, step by step.

        Parameters
        ----------
        call
            Whose rows they are.

        Returns
        -------
        ndarray of float32, shape (rows, features)
            As for `server.scoring.score`.

        Raises
        ------
        StatusError
            INVALID_ARGUMENT if the lengths in raw contents lie; DEADLINE_EXCEEDED.
        """
        # What is beyond float32 becomes infinite, and is found where values are checked. A NaN may signal.
        with np.errstate(over="ignore", invalid="ignore"):
            if self._matrix:
                numbers = self._numbers(self._matrix).reshape(self.rows, len(self._features))
                return np.require(numbers, np.float32, ["C_CONTIGUOUS", "ALIGNED"])
            matrix = np.full((self.rows, len(self._features)), np.nan, np.float32)
            for index, found in self._columns:
                if found.elements.raw:
                    matrix[:, index] = self._numbers(found)
        for index, found in self._columns:
            if not found.elements.raw:
                matrix[:, index] = yield from self._codes(self._features[index], found, call)
        return matrix

    def explained(self, faults: Faults) -> Faults:
        """Return faults found in what `decode` returned, with texts told as they came in place of codes."""
        kept = [(row, self._unknown.get((row, fault.feature), fault)) for row, fault in faults.kept]
        return replace(faults, kept=kept)

    def _look(self) -> None:
        inputs = self._request.inputs
        if not inputs:
            raise invalid_request(
                "inputs",
                "MISSING_INPUT",
                f"the request has no input: send a tensor for each feature, or {MATRIX!r}",
            )
        if self._raw and len(self._raw) != len(inputs):
            raise invalid_request(
                "raw_input_contents",
                "WRONG_SHAPE",
                f"raw_input_contents has {len(self._raw)} entries, but there are {len(inputs)} inputs: "
                "each has one, or none has",
            )
        seen: set[str] = set()
        for place, tensor in enumerate(inputs):
            if len(self._faults) >= MOST_FAULTS:
                return
            if tensor.name in seen:
                self._add(tensor.name, "", "DUPLICATE", "it comes twice")
            elif tensor.name in self._names:
                index = self._names[tensor.name]
                self._look_at(place, tensor, index, self._features[index].type)
            elif tensor.name == MATRIX:
                if len(inputs) > 1:
                    self._add(MATRIX, "", "DUPLICATE", "it has every feature, and comes alone")
                self._look_at(place, tensor, None, "number")
            else:
                fault = unknown_feature(tensor.name)
                message = f"{fault.message}; inputs are its features, or {MATRIX!r} alone"
                self._faults.append((_place(tensor.name), fault.reason, message))
            seen.add(tensor.name)
        if MATRIX in seen and MATRIX not in self._names:
            return
        for feature in self._features:
            if feature.missing == "reject" and feature.name not in seen:
                fault = missing_value(feature, "MISSING_FEATURE")
                self._faults.append((_place(feature.name), fault.reason, fault.message))

    def _look_at(
        self, place: int, tensor: ModelInferRequest.InferInputTensor, index: int | None, kind: str
    ) -> None:
        """Look at a tensor of a feature, or of all of them."""
        if tensor.parameters and any(name.startswith("shared_memory_") for name in tensor.parameters):
            self._add(
                tensor.name, "parameters", "UNSUPPORTED", "there is no shared memory here: send the data"
            )
            return
        elements = _TAKEN[kind].get(tensor.datatype)
        if elements is None:
            shown = repr(tensor.datatype[:SHOWN])
            self._add(tensor.name, "datatype", "WRONG_TYPE", f"expects {_EXPECTED[kind]}, not {shown}")
        count = self._look_at_shape(tensor, index)
        if elements is None or count is None:
            return
        self._look_at_contents(place, tensor, elements, count)
        found = _Found(place, elements)
        if index is None:
            self._matrix = found
        else:
            self._columns.append((index, found))

    def _look_at_shape(self, tensor: ModelInferRequest.InferInputTensor, index: int | None) -> int | None:
        """Return how many elements a tensor has by its shape; None if the shape is wrong."""
        name, shape = tensor.name, list(tensor.shape[:3])
        width = 1
        if index is None:
            width = len(self._features)
            right = len(shape) == 2
        else:
            right = len(shape) == 1 or (len(shape) == 2 and shape[1] == 1)
        if not right or min(shape) < 0:
            expected = "[rows, features]" if index is None else "[rows] or [rows, 1]"
            more = ", ..." if len(tensor.shape) > 3 else ""
            shown = f"[{', '.join(map(str, shape))}{more}]"
            self._add(name, "shape", "WRONG_SHAPE", f"its shape is {shown}, but {expected} is needed")
            return None
        if index is None and shape[1] != width:
            message = f"it has {shape[1]} columns, but the model has {width} features"
            self._add(name, "shape", "WRONG_LENGTH", f"{message}: ModelMetadata lists them in order")
            return None
        if shape[0] > self._most_rows:
            raise rows.too_many(f"{_place(name)}.shape", str(shape[0]), self._most_rows)
        if not shape[0]:
            self._add(name, "shape", "MISSING_INPUT", "it has no row: one is needed at least")
            return None
        if self.rows and shape[0] != self.rows:
            first = self._first
            self._add(name, "shape", "WRONG_SHAPE", f"it has {shape[0]} rows, but {first} has {self.rows}")
            return None
        self.rows, self._first = shape[0], self._first or name
        return self.rows * width

    def _look_at_contents(
        self, place: int, tensor: ModelInferRequest.InferInputTensor, elements: _Elements, count: int
    ) -> None:
        name = tensor.name
        filled = {}
        if tensor.HasField("contents"):
            filled = {field.name: len(values) for field, values in tensor.contents.ListFields()}
        if self._raw:
            if filled:
                self._add(name, "contents", "DUPLICATE", "it has contents, and raw_input_contents as well")
            found = len(self._raw[place])
            size = int(elements.raw[2:]) if elements.raw else _LENGTH_BYTES
            if found < count * size or (elements.raw and found > count * size):
                least = "" if elements.raw else " at least"
                message = f"raw_input_contents[{place}] has {found} bytes, but {count} elements of "
                message += f"{tensor.datatype} take {count * size}{least}"
                self._add(name, "", "WRONG_SHAPE", message)
            return
        found = filled.pop(elements.field, 0)
        if filled:
            message = f"{tensor.datatype} is in {elements.field}, and nothing in {', '.join(filled)}"
            self._add(name, "contents", "WRONG_TYPE", message)
        elif found != count:
            message = f"{elements.field} has {found} elements, but its shape {count}"
            self._add(name, "contents", "WRONG_SHAPE", message)

    def _add(self, name: str, field: str, reason: str, message: str) -> None:
        """Take note of a fault in the tensor of a feature, or in `MATRIX`."""
        where = _place(name)
        self._faults.append((f"{where}.{field}" if field else where, reason, f"{name}: {message}"))

    def _numbers(self, found: _Found) -> NDArray[Any]:
        if self._raw:
            return np.frombuffer(self._raw[found.place], found.elements.raw)
        return np.array(getattr(self._request.inputs[found.place].contents, found.elements.field))

    def _codes(
        self, feature: Feature, found: _Found, call: Call
    ) -> Generator[None, None, NDArray[np.float32]]:
        """Return the codes of a feature's categories. An empty text that is none is a missing value."""
        known = {text.encode(): code for text, code in category_codes(feature).items()}
        known.setdefault(b"", np.nan)
        codes = np.empty(self.rows, np.float32)
        read = self._raw_texts if self._raw else self._typed_texts
        end = unknown = 0
        for first in range(0, self.rows, _STEP):
            if first:
                yield
            if call.expired():
                raise late()
            last = min(first + _STEP, self.rows)
            texts, end = read(found, feature.name, first, last, end)
            codes[first:last] = [known.get(text, _UNKNOWN) for text in texts]
            for row in np.flatnonzero(codes[first:last] == _UNKNOWN)[: MOST_FAULTS - unknown].tolist():
                unknown += 1
                shown = texts[row][: 4 * SHOWN].decode(errors="backslashreplace")
                self._unknown[first + row, feature.name] = unknown_category(feature, shown)
        if self._raw and end < (size := len(self._raw[found.place])):
            raise _lies(found, f"{feature.name}: {size - end} bytes are left after {self.rows} elements")
        return codes

    def _typed_texts(
        self, found: _Found, _name: str, first: int, last: int, _start: int
    ) -> tuple[list[bytes], int]:
        return self._request.inputs[found.place].contents.bytes_contents[first:last], 0

    def _raw_texts(
        self, found: _Found, name: str, first: int, last: int, start: int
    ) -> tuple[list[bytes], int]:
        """Return the texts of some rows, the first of which begins at a place, and where the last ends."""
        data = self._raw[found.place]
        texts = []
        end = start
        for row in range(first, last):
            start = end + _LENGTH_BYTES
            end = start + int.from_bytes(data[end:start], "little")
            if end > len(data):
                raise _lies(found, f"{name}: the text of row {row} does not end within the {len(data)} bytes")
            texts.append(data[start:end])
        return texts, end


def _place(name: str) -> str:
    return f"inputs.{name[:SHOWN]}"


def _lies(found: _Found, message: str) -> StatusError:
    return invalid_request(f"raw_input_contents[{found.place}]", "WRONG_SHAPE", message)
