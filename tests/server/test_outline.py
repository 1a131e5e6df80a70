"""A request's outline, held against what protobuf itself makes of the same bytes."""

import struct
from itertools import pairwise

import numpy as np
import pytest
from forest.v1.prediction_service_pb2 import (
    Matrix,
    PredictBatchRequest,
    PredictStreamRequest,
    Record,
    Records,
    Value,
    Vector,
)
from google.protobuf.message import DecodeError
from hypothesis import given
from hypothesis import strategies as st

from server.outline import MatrixOutline, Outline, OutlineError, RecordsOutline, outline

_RECORDS, _MATRIX = (
    PredictBatchRequest.DESCRIPTOR.fields_by_name[name].number for name in ("records", "matrix")
)


def _outline(data: bytes, most_rows: int = 1_000) -> Outline:
    return outline(data, _RECORDS, _MATRIX, most_rows)


def _put_together(data: bytes, described: Outline) -> PredictBatchRequest:
    """Return the request that an outline tells of."""
    request = PredictBatchRequest.FromString(described.head)
    rows = described.rows
    if isinstance(rows, MatrixOutline):
        request.matrix.CopyFrom(
            Matrix(rows=rows.rows, columns=rows.columns, data=data[rows.start : rows.end])
        )
    elif isinstance(rows, RecordsOutline):
        ends = (*rows.starts, rows.end)
        request.records.SetInParent()
        for start, end in pairwise(ends):
            request.records.records.extend(Records.FromString(data[start:end]).records)
    return request


_INT64 = st.integers(-(2**63), 2**63 - 1)
_RECORD = st.builds(
    lambda features: Record(features={name: Value(number=number) for name, number in features.items()}),
    st.dictionaries(st.text(max_size=3), st.floats(allow_nan=False), max_size=3),
)
_ROWS = st.one_of(
    st.fixed_dictionaries({}),
    st.fixed_dictionaries({"matrix": st.builds(Matrix, rows=_INT64, columns=_INT64, data=st.binary())}),
    st.fixed_dictionaries({"records": st.builds(Records, records=st.lists(_RECORD, max_size=5))}),
)
_REQUESTS = st.builds(
    lambda rows, **fields: PredictBatchRequest(**rows, **fields),
    _ROWS,
    model=st.text(max_size=5),
    version=st.text(max_size=5),
    request_id=st.text(max_size=200),
)


@given(_REQUESTS)
def test_an_outline_tells_of_the_very_request(request: PredictBatchRequest) -> None:
    data = request.SerializeToString()
    assert _put_together(data, _outline(data)) == request


@given(_REQUESTS, st.data())
def test_damaged_bytes_are_read_as_protobuf_reads_them_or_refused(
    request: PredictBatchRequest, drawn: st.DataObject
) -> None:
    data = bytearray(request.SerializeToString())
    for _ in range(drawn.draw(st.integers(1, 3))):
        place = drawn.draw(st.integers(0, len(data)))
        data[place : place + drawn.draw(st.integers(0, 2))] = drawn.draw(st.binary(max_size=3))
    try:
        described = _outline(bytes(data))
    except OutlineError:
        return
    try:
        found = _put_together(bytes(data), described)
    except DecodeError:
        return
    # Unknown fields inside of what holds the rows are not kept.
    expected = PredictBatchRequest.FromString(bytes(data))
    for message in (found, expected):
        message.DiscardUnknownFields()
    assert found.SerializeToString(deterministic=True) == expected.SerializeToString(deterministic=True)


@given(st.binary(max_size=100))
def test_any_bytes_have_an_outline_or_are_refused(data: bytes) -> None:
    try:
        described = _outline(data)
    except OutlineError:
        return
    assert len(described.head) <= len(data)


def test_fields_may_come_in_any_order_and_unknown_ones_are_skipped() -> None:
    numbers = np.arange(6, dtype="<f4").tobytes()
    unknown = b"\xf8\x07\x01" + b"\xfa\x07\x02ab" + b"\xfd\x07abcd" + b"\xf9\x07abcdefgh"
    inner = b"\x1a\x18" + numbers + unknown + b"\x10\x03" + b"\x08\x09" + b"\x08\x02"
    data = unknown + b"\x22" + bytes([len(inner)]) + inner + b"\x0a\x05fraud"
    described = _outline(data)
    assert isinstance(described.rows, MatrixOutline)
    # As in protobuf, the last one of a number counts.
    assert (described.rows.rows, described.rows.columns) == (2, 3)
    assert data[described.rows.start : described.rows.end] == numbers
    assert PredictBatchRequest.FromString(described.head).model == "fraud"


def test_rows_that_stand_there_twice_are_refused() -> None:
    matrix = PredictBatchRequest(matrix=Matrix(rows=1, columns=1, data=bytes(4))).SerializeToString()
    records = PredictBatchRequest(records=Records(records=[Record()])).SerializeToString()
    for data in (matrix + matrix, records + matrix, records + records):
        with pytest.raises(OutlineError, match="twice"):
            _outline(data)


def test_a_request_of_endless_fields_is_not_read_to_its_end() -> None:
    with pytest.raises(OutlineError, match="too many fields"):
        _outline(b"\xf8\x07\x01" * 1_000_000)
    inner = b"\xf8\x07\x01" * 1_000_000
    head = b"\x1a" + _varint(len(inner))
    with pytest.raises(OutlineError, match="too many fields"):
        _outline(head + inner)


def test_records_beyond_the_most_are_not_looked_for() -> None:
    data = PredictBatchRequest(records=Records(records=[Record()] * 50)).SerializeToString()
    for most, found in ((100, 50), (50, 50), (49, 50), (10, 11)):
        rows = _outline(data, most).rows
        assert isinstance(rows, RecordsOutline)
        assert len(rows.starts) == found


def test_a_streams_fields_are_its_own() -> None:
    fields = PredictStreamRequest.DESCRIPTOR.fields_by_name
    numbers = fields["records"].number, fields["matrix"].number
    one = PredictStreamRequest(vector=Vector(values=[1.0]), request_id="a").SerializeToString()
    assert outline(one, *numbers, 10) == Outline(one, None)
    many = PredictStreamRequest(
        matrix=Matrix(rows=1, columns=1, data=struct.pack("<f", 1)), request_id="a"
    ).SerializeToString()
    described = outline(many, *numbers, 10)
    assert isinstance(described.rows, MatrixOutline)
    assert PredictStreamRequest.FromString(described.head).request_id == "a"


def _varint(value: int) -> bytes:
    data = b""
    while value > 127:
        data += bytes([value & 127 | 128])
        value >>= 7
    return data + bytes([value])
