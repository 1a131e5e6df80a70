"""From the rows of a request to what a model's graph takes: one row by name, many by name or by position."""

from collections.abc import Generator

import numpy as np
from forest.v1.prediction_service_pb2 import Record, Records
from numpy.typing import NDArray

from model_bundle.encoding import (
    Encoder,
    Faults,
    InvalidRow,
    InvalidRows,
    OutOfTrainingRange,
    Value,
    Violation,
)
from server.call import Call
from server.decoding import decoded
from server.outline import MatrixOutline, RecordsOutline
from server.status import StatusError, invalid_request, late

# Records that are decoded in one step: it takes a millisecond or two.
_STEP = 64
_FLOAT_BYTES = 4
# So many names that no feature has are looked at, in some 60 ms. A message has room for half a
# million of them, and that would take seconds.
_MOST_UNKNOWN = 10_000


def encode_record(encoder: Encoder, record: Record) -> list[OutOfTrainingRange]:
    """Encode a record. The usual one, with every feature and each of its type, is read in their order.

    To ask a message what it holds takes as long as reading three of its fields. A field that reads as other
    than nothing is held; only zeros, empty texts and False must be asked about.
    """
    found = record.features
    features = len(encoder.kinds)
    if len(found) > features + _MOST_UNKNOWN:
        fault = f"{len(found)} values, but the model has {features} features: GetModel lists them"
        raise InvalidRow([Violation("", "WRONG_LENGTH", fault)])
    values: list[Value] = []
    for name, kind in encoder.kinds:
        # A feature that is absent is added here, and holds nothing: a missing value is just that.
        message = found[name]
        value = getattr(message, kind)
        if not value and not message.HasField(kind):
            break
        values.append(value)
    if len(values) == len(found):
        return encoder.encode_values(values)
    return encoder.encode_record(
        {
            name: getattr(value, kind) if (kind := value.WhichOneof("kind")) else None
            for name, value in found.items()
        }
    )


def count(rows: MatrixOutline | RecordsOutline, most: int) -> int:
    """Return how many rows a request has.

    Raises
    ------
    StatusError
        INVALID_ARGUMENT if there are none, or too many, or a matrix' shape is none or not that of its data.
    """
    if isinstance(rows, RecordsOutline):
        if len(rows.starts) > most:
            raise too_many("records", f"more than {most}", most)
        if not rows.starts:
            raise invalid_request(
                "records", "MISSING_INPUT", "'records' has no record: one is needed at least"
            )
        return len(rows.starts)
    found = rows.end - rows.start
    for name, length in (("rows", rows.rows), ("columns", rows.columns)):
        if length < 0:
            raise invalid_request(f"matrix.{name}", "WRONG_SHAPE", f"matrix.{name} {length} is negative")
    if rows.rows > most:
        raise too_many("matrix.rows", str(rows.rows), most)
    if not rows.rows and not found:
        raise invalid_request("matrix.rows", "MISSING_INPUT", "'matrix' has no row: one is needed at least")
    if _FLOAT_BYTES * rows.rows * rows.columns != found:
        raise invalid_request(
            "matrix.data",
            "WRONG_SHAPE",
            f"matrix.data has {found} bytes, but {rows.rows} rows of {rows.columns} columns take "
            f"{_FLOAT_BYTES * rows.rows * rows.columns}: four for each number",
        )
    return rows.rows


def decode(
    data: bytes, rows: MatrixOutline | RecordsOutline, encoder: Encoder, call: Call
) -> Generator[None, None, NDArray[np.float32]]:
    """Return a request's rows in feature order, step by step.

    Parameters
    ----------
    data
        The request.
    rows
        Where they are: `count` has found nothing wrong with that.
    encoder
        The model's. It is not written to.
    call
        Whose rows they are.

    Returns
    -------
    ndarray of float32, shape (rows, features)
        As for `server.scoring.score`. A matrix is not copied, but for the sake of its alignment.

    Raises
    ------
    InvalidRows
        If any record has faults, with the faults of all.
    StatusError
        INVALID_ARGUMENT if rows are too short or too long, or the records cannot be read; DEADLINE_EXCEEDED.
    """
    if isinstance(rows, RecordsOutline):
        return (yield from _decode_records(data, rows, encoder, call))
    features = len(encoder.features)
    if rows.columns != features:
        raise invalid_request(
            "matrix.columns",
            "WRONG_LENGTH",
            f"matrix.columns is {rows.columns}, but the model has {features} features: "
            "GetModel lists them in order",
        )
    matrix = np.frombuffer(data, "<f4", rows.rows * features, rows.start).reshape(rows.rows, features)
    return np.require(matrix, np.float32, ["C_CONTIGUOUS", "ALIGNED"])


def _decode_records(
    data: bytes, rows: RecordsOutline, encoder: Encoder, call: Call
) -> Generator[None, None, NDArray[np.float32]]:
    # The bundle's own encoder has the memory of one row, which is in use.
    encoder = Encoder(encoder.features)
    ends = (*rows.starts, rows.end)
    matrix = np.empty((len(rows.starts), len(encoder.features)), np.float32)
    faults = Faults()
    for first in range(0, len(matrix), _STEP):
        if first:
            yield
        if call.expired():
            raise late()
        last = min(first + _STEP, len(matrix))
        for row, record in enumerate(decoded(Records, data[ends[first] : ends[last]]).records, first):
            try:
                encode_record(encoder, record)
            except InvalidRow as error:
                faults.add(row, error.violations)
            matrix[row] = encoder.row
    if faults.count:
        raise InvalidRows(faults)
    return matrix


def too_many(field: str, found: str, most: int) -> StatusError:
    """Return the error of a request with more rows than it may have."""
    return invalid_request(
        field,
        "TOO_MANY_ROWS",
        f"the request has {found} rows, but {most} are the most here: send them in parts",
    )
