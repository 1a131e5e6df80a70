"""PredictBatch and PredictStream, from serialised requests to serialised answers, without a transport."""

import math
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from forest.v1.prediction_service_pb2 import (
    Classifications,
    Matrix,
    PredictBatchRequest,
    PredictBatchResponse,
    PredictRequest,
    PredictResponse,
    PredictStreamRequest,
    PredictStreamResponse,
    Record,
    Records,
    Value,
    Vector,
)
from google.rpc.error_details_pb2 import BadRequest, RetryInfo
from google.rpc.status_pb2 import Status
from hypothesis import given, settings
from hypothesis import strategies as st

from model_bundle import golden
from model_bundle.encoding import Encoder
from model_bundle.manifest import RiskLevel
from server import scoring
from server.admission import Admission
from server.call import Call, Work
from server.models import Models
from server.prediction_service import PredictionService
from server.status import Code, StatusError

_CALL = Call(math.inf, (), lambda: "nobody")
_GOOD = {"amount": 50.0, "age": 40.0, "country": "fr", "member": True, "balance": 8.0}
_GOOD_VECTOR = [50.0, 40.0, 1.0, 1.0, 8.0]
_MOST = 700


def _service(models_folder: Path, admission: Admission | None = None) -> PredictionService:
    models = Models(models_folder)
    models.load()
    return PredictionService(models, admission or Admission(_MOST, 10 * _MOST))


@pytest.fixture(scope="module")
def mixed(mixed_bundle: Path) -> PredictionService:
    return _service(mixed_bundle.parents[1])


def _value(value: Any) -> Value:
    if value is None:
        return Value()
    if isinstance(value, bool):
        return Value(flag=value)
    return Value(text=value) if isinstance(value, str) else Value(number=value)


def _record(record: dict[str, Any]) -> Record:
    return Record(features={name: _value(value) for name, value in record.items()})


def _records(records: list[dict[str, Any]]) -> Records:
    return Records(records=[_record(record) for record in records])


def _matrix(rows: Any) -> Matrix:
    matrix = np.array(rows, "<f4")
    return Matrix(rows=matrix.shape[0], columns=matrix.shape[1], data=matrix.tobytes())


def _finish(work: bytes | Work) -> bytes:
    """Do all of a work's steps."""
    if isinstance(work, bytes):
        return work
    while True:
        try:
            next(work)
        except StopIteration as stopped:
            result: bytes = stopped.value
            return result


def _batch(service: PredictionService, call: Call = _CALL, **fields: Any) -> PredictBatchResponse:
    request = PredictBatchRequest(**{"model": "mixed"} | fields)
    return PredictBatchResponse.FromString(_finish(service.predict_batch(request.SerializeToString(), call)))


def _stream(service: PredictionService, call: Call = _CALL, **fields: Any) -> PredictStreamResponse:
    request = PredictStreamRequest(**{"model": "mixed"} | fields)
    return PredictStreamResponse.FromString(
        _finish(service.predict_stream(request.SerializeToString(), call))
    )


def _error(service: PredictionService, call: Call = _CALL, **fields: Any) -> StatusError:
    with pytest.raises(StatusError) as caught:
        _batch(service, call, **fields)
    return caught.value


def _violations(status: Status) -> list[tuple[str, str]]:
    request = BadRequest()
    assert len(status.details) == 1
    assert status.details[0].Unpack(request)
    assert all(violation.description for violation in request.field_violations)
    return [(violation.field, violation.reason) for violation in request.field_violations]


def _faults(error: StatusError) -> list[tuple[str, str]]:
    assert error.code is Code.INVALID_ARGUMENT
    return _violations(Status.FromString(error.to_bytes()))


# The same input gives the same bits.


@pytest.fixture(scope="module")
def four(four_models: Path) -> PredictionService:
    return _service(four_models)


_EDGES = [1, 2, 3, 63, 64, 65, 127, 129, 255, 256, scoring._STEP - 1, scoring._STEP, scoring._STEP + 1, _MOST]


@pytest.mark.parametrize("name", ["fraud", "credit", "churn", "demand"])
def test_a_row_gets_the_same_bits_alone_and_in_any_batch(
    four: PredictionService, four_models: Path, name: str
) -> None:
    folder = four_models / name / "1.0.0"
    encoder = Encoder(four._models.find(name, "").bundle.encoder.features)
    vectors, records = [], []
    for row in golden.from_bytes((folder / "golden.jsonl").read_bytes()):
        encoder.encode_record(row.record)
        vectors.append(encoder.row.copy())
        records.append(_record({key: value for key, value in row.record.items() if value is not None}))
    alone = []
    for vector in vectors:
        request = PredictRequest(model=name, vector=Vector(values=vector))
        alone.append(PredictResponse.FromString(four.predict(request.SerializeToString(), _CALL)))
    order = np.random.default_rng(0).permutation(np.arange(_MOST) % len(vectors))
    for size in _EDGES:
        for first in (0, _MOST - size):
            chosen = order[first : first + size]
            by_position = _batch(four, model=name, matrix=_matrix([vectors[place] for place in chosen]))
            by_name = _batch(four, model=name, records=Records(records=[records[place] for place in chosen]))
            assert by_name == by_position
            _check(by_position, [alone[place] for place in chosen])
            streamed = _stream(four, model=name, matrix=_matrix([vectors[place] for place in chosen]))
            assert streamed.classifications == by_position.classifications
            assert streamed.regressions == by_position.regressions
            assert streamed.batch_warnings == by_position.warnings


def _check(batch: PredictBatchResponse, alone: list[PredictResponse]) -> None:
    """Hold a batch's answer against those of its rows: numbers by their bits."""
    if batch.HasField("regressions"):
        found = batch.regressions
        assert _bits(found.values) == _bits([row.regression.value for row in alone])
        assert _bits(found.lows) == _bits([row.regression.interval.low for row in alone])
        assert _bits(found.highs) == _bits([row.regression.interval.high for row in alone])
        assert {row.regression.interval.coverage for row in alone} == {found.coverage}
    else:
        rows = [row.classification for row in alone]
        decided = batch.classifications
        assert _bits(decided.probabilities) == _bits([row.probability for row in rows])
        assert [decided.labels[place] for place in decided.label_indices] == [row.label for row in rows]
        assert [decided.risk_levels[place] for place in decided.risk_level_indices] == [
            row.risk_level for row in rows
        ]
        assert {row.threshold for row in rows} == {decided.threshold}
    assert {(row.model, row.version, row.digest) for row in alone} == {
        (batch.model, batch.version, batch.digest)
    }
    odd = {warning.feature: list(warning.rows) for warning in batch.warnings}
    expected: dict[str, list[int]] = {}
    for number, row in enumerate(alone):
        for warning in row.warnings:
            expected.setdefault(warning.feature, []).append(number)
    assert odd == expected


def _bits(numbers: Any) -> list[bytes]:
    return [struct.pack("<d", number) for number in numbers]


def test_a_streams_message_of_one_row_is_answered_as_predict_answers(four: PredictionService) -> None:
    for name in ("fraud", "demand"):
        features = len(four._models.find(name, "").manifest.features)
        fields = {"model": name, "vector": Vector(values=[1.0] * features), "request_id": "a"}
        one = PredictRequest(**fields).SerializeToString()
        assert PredictStreamRequest(**fields).SerializeToString() == one
        try:
            answer = four.predict(one, _CALL)
        except StatusError as error:
            status = Status.FromString(error.to_bytes())
            answer = PredictStreamResponse(request_id="a", error=status).SerializeToString()
        assert four.predict_stream(one, _CALL) == answer


def test_answers_are_known_by_hand(mixed: PredictionService, mixed_score: Callable[..., float]) -> None:
    rows = [(float(i % 101), 18.0 + i % 80, float(i % 3), float(i % 2), float(i)) for i in range(_MOST)]
    rows[7] = (math.nan, 18.0, math.nan, 0.0, 0.0)
    decided = _batch(mixed, matrix=_matrix(rows)).classifications
    assert list(decided.probabilities) == [mixed_score(row) for row in rows]
    assert [decided.labels[place] for place in decided.label_indices] == [
        "yes" if mixed_score(row) >= 0.3 else "no" for row in rows
    ]
    assert [decided.risk_levels[place] for place in decided.risk_level_indices] == [
        "high" if mixed_score(row) >= 0.5 else "low" for row in rows
    ]
    assert len(set(decided.label_indices)) == 2


def test_records_and_rows_give_the_same_answer(mixed: PredictionService) -> None:
    records = [_GOOD, _GOOD | {"country": None}, _GOOD | {"amount": math.nan, "member": False}]
    rows = [_GOOD_VECTOR, [50, 40, math.nan, 1, 8], [math.nan, 40, 1, 0, 8]]
    by_name = _batch(mixed, records=_records(records), request_id="ö\n\0" * 50)
    assert by_name == _batch(mixed, matrix=_matrix(rows), request_id="ö\n\0" * 50)
    assert (by_name.request_id, by_name.model, by_name.version) == ("ö\n\0" * 50, "mixed", "1.0.0")
    assert by_name.digest == mixed._models.find("mixed", "").digest


def test_what_is_odd_is_told_by_feature_with_its_rows(mixed: PredictionService) -> None:
    rows = [[50.0, 40.0, 1.0, 1.0, 8.0] for _ in range(10)]
    rows[3][0] = 100.5
    rows[9][0] = -1.0
    for fields in (
        {"matrix": _matrix(rows)},
        {"records": _records([_GOOD | {"amount": row[0]} for row in rows])},
    ):
        (warning,) = _batch(mixed, **fields).warnings
        assert (warning.feature, list(warning.rows)) == ("amount", [3, 9])
        assert warning.reason == 1
        assert warning.message == "amount: outside the range of training, 0 to 100"


# Errors.


@pytest.mark.parametrize(
    ("matrix", "field", "reason"),
    [
        (Matrix(), "matrix.rows", "MISSING_INPUT"),
        (Matrix(columns=5), "matrix.rows", "MISSING_INPUT"),
        (Matrix(rows=0, columns=5, data=bytes(20)), "matrix.data", "WRONG_SHAPE"),
        (Matrix(rows=-1, columns=5, data=bytes(20)), "matrix.rows", "WRONG_SHAPE"),
        (Matrix(rows=1, columns=-5, data=bytes(20)), "matrix.columns", "WRONG_SHAPE"),
        (Matrix(rows=-1, columns=-5, data=bytes(20)), "matrix.rows", "WRONG_SHAPE"),
        (Matrix(rows=2, columns=5, data=bytes(20)), "matrix.data", "WRONG_SHAPE"),
        (Matrix(rows=1, columns=5, data=bytes(19)), "matrix.data", "WRONG_SHAPE"),
        (Matrix(rows=1, columns=5, data=bytes(21)), "matrix.data", "WRONG_SHAPE"),
        (Matrix(rows=1, columns=2**62, data=bytes(20)), "matrix.data", "WRONG_SHAPE"),
        # Products that are 20 in 32 or 64 bits.
        (Matrix(rows=5, columns=2**62 + 1, data=bytes(20)), "matrix.data", "WRONG_SHAPE"),
        (Matrix(rows=1, columns=2**30 + 5, data=bytes(20)), "matrix.data", "WRONG_SHAPE"),
        (Matrix(rows=1, columns=0), "matrix.columns", "WRONG_LENGTH"),
        (Matrix(rows=5, columns=1, data=bytes(20)), "matrix.columns", "WRONG_LENGTH"),
        (Matrix(rows=2, columns=6, data=bytes(48)), "matrix.columns", "WRONG_LENGTH"),
        (Matrix(rows=_MOST + 1, columns=5, data=bytes(20 * (_MOST + 1))), "matrix.rows", "TOO_MANY_ROWS"),
        (Matrix(rows=2**63 - 1, columns=5), "matrix.rows", "TOO_MANY_ROWS"),
    ],
    ids=lambda value: str(value)[:60],
)
def test_a_shape_that_is_none_or_lies_is_named(
    mixed: PredictionService, matrix: Matrix, field: str, reason: str
) -> None:
    error = _error(mixed, matrix=matrix)
    assert _faults(error) == [(field, reason)]
    assert _violations(_stream(mixed, matrix=matrix, request_id="a").error) == [(field, reason)]


def test_too_many_rows_and_none_are_named_with_the_most(mixed: PredictionService) -> None:
    error = _error(mixed, records=_records([_GOOD] * (_MOST + 1)))
    assert _faults(error) == [("records", "TOO_MANY_ROWS")]
    assert f"{_MOST} are the most" in error.message
    assert f"{_MOST} are the most" in _error(mixed, matrix=_matrix([_GOOD_VECTOR] * (_MOST + 1))).message
    assert _faults(_error(mixed, records=Records())) == [("records", "MISSING_INPUT")]
    assert _faults(_error(mixed)) == [("input", "MISSING_INPUT")]


def test_every_faulty_row_of_a_matrix_is_named_in_order(mixed: PredictionService) -> None:
    rows = [list(_GOOD_VECTOR) for _ in range(600)]
    rows[599] = [math.inf, 17.0, 3.0, math.nan, -math.inf]
    rows[2][1] = math.nan
    rows[2][0] = math.nan
    error = _error(mixed, matrix=_matrix(rows))
    assert _faults(error) == [
        ("rows[2].age", "MISSING_VALUE"),
        ("rows[599].amount", "NOT_FINITE"),
        ("rows[599].age", "OUT_OF_RANGE"),
        ("rows[599].country", "UNKNOWN_CATEGORY"),
        ("rows[599].member", "MISSING_VALUE"),
        ("rows[599].balance", "NOT_FINITE"),
    ]
    assert error.message == "row 2: age: missing, and the model has no rule for that (and 5 more)"


def test_every_faulty_record_is_named_in_order(mixed: PredictionService) -> None:
    records = [dict(_GOOD) for _ in range(100)]
    records[70]["country"] = "uk"
    records[5] = {"tiers": 1.0, "age": "x", "member": True, "balance": 1.0}
    error = _error(mixed, records=_records(records))
    assert _faults(error) == [
        ("rows[5].tiers", "UNKNOWN_FEATURE"),
        ("rows[5].age", "WRONG_TYPE"),
        ("rows[70].country", "UNKNOWN_CATEGORY"),
    ]


@pytest.mark.parametrize("by_name", [False, True])
def test_faults_are_counted_however_many_there_are(mixed: PredictionService, by_name: bool) -> None:
    bad = _GOOD | {"balance": math.inf, "age": math.nan}
    rows = (
        {"records": _records([bad] * _MOST)}
        if by_name
        else {"matrix": _matrix([[1, math.nan, 1, 1, math.inf]] * _MOST)}
    )
    error = _error(mixed, **rows)
    assert f"(and {2 * _MOST - 1} more)" in error.message
    assert _faults(error)[:2] == [("rows[0].age", "MISSING_VALUE"), ("rows[0].balance", "NOT_FINITE")]
    assert 10 < len(_faults(error)) < 100
    assert len(error.to_bytes()) < 4000


_NUMBERS = st.sampled_from([0.0, 1.0, 2.0, 40.0, 100.5, 0.5, -1.0, 3.0, math.nan, math.inf, -math.inf, -0.0])


@given(st.lists(st.tuples(*[_NUMBERS | st.floats(width=32)] * 5), min_size=1, max_size=8))
@settings(max_examples=300)
def test_a_matrix_is_judged_row_by_row_as_vectors_are(
    mixed: PredictionService, rows: list[tuple[float, ...]]
) -> None:
    alone: list[PredictResponse] = []
    faults: list[tuple[str, str]] = []
    for number, row in enumerate(rows):
        request = PredictRequest(model="mixed", vector=Vector(values=row))
        try:
            alone.append(PredictResponse.FromString(mixed.predict(request.SerializeToString(), _CALL)))
        except StatusError as error:
            faults += [
                (field.replace("rows[0]", f"rows[{number}]"), reason) for field, reason in _faults(error)
            ]
    if faults:
        found = _faults(_error(mixed, matrix=_matrix(rows)))
        assert found == faults[: len(found)]
        assert len(found) == len(faults) or len(found) > 10
    else:
        _check(_batch(mixed, matrix=_matrix(rows)), alone)


@given(
    rows=st.integers(-3, 10) | st.integers(-(2**63), 2**63 - 1),
    columns=st.integers(-3, 10) | st.integers(-(2**63), 2**63 - 1),
    data=st.binary(max_size=200)
    | st.integers(0, 12).map(lambda rows: np.tile(np.array(_GOOD_VECTOR, "<f4"), rows).tobytes()),
)
@settings(max_examples=300)
def test_whatever_the_shape_it_is_an_answer_for_each_row_or_an_error_of_the_caller(
    mixed: PredictionService, rows: int, columns: int, data: bytes
) -> None:
    answer = _stream(mixed, matrix=Matrix(rows=rows, columns=columns, data=data))
    if answer.HasField("error"):
        assert answer.error.code == Code.INVALID_ARGUMENT
        return
    assert (rows > 0, columns, len(data)) == (True, 5, 4 * rows * columns)
    assert len(answer.classifications.probabilities) == rows


@given(st.binary(max_size=60))
def test_bytes_that_are_no_request_are_invalid_or_answered(mixed: PredictionService, data: bytes) -> None:
    codes = set()
    for handle in (mixed.predict_batch, mixed.predict_stream):
        try:
            _finish(handle(data, _CALL))
        except StatusError as error:
            codes.add(error.code)
    assert codes <= {Code.INVALID_ARGUMENT, Code.NOT_FOUND}


def test_an_unknown_model_is_not_found_before_anything_else(mixed: PredictionService) -> None:
    assert _error(mixed, model="fraut", matrix=Matrix()).code is Code.NOT_FOUND
    assert _error(mixed, version="2.0.0").code is Code.NOT_FOUND


# Streams.


def test_a_streams_errors_are_answers_with_the_messages_id(mixed: PredictionService) -> None:
    for fields, code in (
        ({"vector": Vector(values=[1.0])}, Code.INVALID_ARGUMENT),
        ({"record": _record({"age": "x"})}, Code.INVALID_ARGUMENT),
        ({"records": _records([_GOOD, {}])}, Code.INVALID_ARGUMENT),
        ({"matrix": _matrix([[1.0]])}, Code.INVALID_ARGUMENT),
        ({}, Code.INVALID_ARGUMENT),
        ({"model": "fraut", "vector": Vector()}, Code.NOT_FOUND),
        ({"model": "fraut", "matrix": _matrix([_GOOD_VECTOR])}, Code.NOT_FOUND),
    ):
        answer = _stream(mixed, request_id="a", **fields)
        assert answer.WhichOneof("outcome") == "error"
        assert (answer.request_id, answer.error.code) == ("a", code)
        assert answer.error.message
    assert _violations(_stream(mixed, records=_records([_GOOD, {}])).error)[0][0] == "rows[1].age"
    undecodable = PredictStreamResponse.FromString(_finish(mixed.predict_stream(b"\xff", _CALL)))
    assert undecodable.error.code == Code.INVALID_ARGUMENT
    assert "forest.v1.PredictStreamRequest" in undecodable.error.message


def test_a_large_message_of_one_row_is_answered(mixed: PredictionService) -> None:
    answer = _stream(mixed, record=_record(_GOOD), request_id="x" * 100_000)
    assert answer.request_id == "x" * 100_000
    assert answer.classification.label == "yes"


def test_what_is_no_fault_of_a_message_ends_the_stream(mixed_bundle: Path) -> None:
    service = _service(mixed_bundle.parents[1])
    service._models.close()
    for fields in ({"vector": Vector(values=_GOOD_VECTOR)}, {"matrix": _matrix([_GOOD_VECTOR])}):
        with pytest.raises(StatusError) as caught:
            _stream(service, **fields)
        assert caught.value.code is Code.UNAVAILABLE


# Admission, and work that nobody waits for.


def test_rows_beyond_those_in_flight_are_refused_at_once_and_taken_again_later(
    mixed_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    admission = Admission(10, 15)
    service = _service(mixed_bundle.parents[1], admission)
    monkeypatch.setattr(scoring, "FEW", 9)
    ten = PredictBatchRequest(model="mixed", matrix=_matrix([_GOOD_VECTOR] * 10)).SerializeToString()
    work = service.predict_batch(ten, _CALL)
    assert admission.rows == 0
    next(work)
    assert admission.rows == 10
    for fields in ({"matrix": _matrix([_GOOD_VECTOR] * 6)}, {"records": _records([{}] * 6)}):
        error = _error(service, **fields)
        assert error.code is Code.RESOURCE_EXHAUSTED
        assert error.message == "6 rows are too many now: 10 are in flight, and 15 may be"
        (retry,) = error.details
        assert isinstance(retry, RetryInfo)
        assert retry.retry_delay.ToMilliseconds() > 0
        refused = _stream(service, request_id="a", **fields)
        assert (refused.request_id, refused.error.code) == ("a", Code.RESOURCE_EXHAUSTED)
        assert refused.error.details[0].Is(RetryInfo.DESCRIPTOR)
    assert len(_batch(service, matrix=_matrix([_GOOD_VECTOR] * 5)).classifications.probabilities) == 5
    # One row by itself never waits, and is taken.
    assert _stream(service, vector=Vector(values=_GOOD_VECTOR)).HasField("classification")
    assert len(PredictBatchResponse.FromString(_finish(work)).classifications.probabilities) == 10
    assert admission.rows == 0
    assert _batch(service, matrix=_matrix([_GOOD_VECTOR] * 6))


def test_rows_are_no_longer_in_flight_however_their_work_ends(mixed_bundle: Path) -> None:
    admission = Admission(1000, 1000)
    service = _service(mixed_bundle.parents[1], admission)
    late = Call(0.0, (), lambda: "nobody")
    bad = [*_GOOD_VECTOR[:4], math.inf]
    for fields, call in (
        ({"matrix": _matrix([bad] * 900)}, _CALL),
        ({"records": _records([{}] * 900)}, _CALL),
        ({"matrix": _matrix([[1.0]] * 900)}, _CALL),
        ({"matrix": _matrix([_GOOD_VECTOR] * 900)}, late),
        ({"records": _records([_GOOD] * 900)}, late),
    ):
        _error(service, call, **fields)
        assert admission.rows == 0
    request = PredictBatchRequest(model="mixed", matrix=_matrix([_GOOD_VECTOR] * 900)).SerializeToString()
    for steps in (1, 2):
        work = service.predict_batch(request, _CALL)
        for _ in range(steps):
            next(work)
        assert admission.rows == 900
        work.close()
        assert admission.rows == 0


def test_no_work_is_done_after_the_deadline_also_after_a_wait(
    mixed_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = _service(mixed_bundle.parents[1], Admission(2_000, 2_000))
    scored: list[int] = []
    session = service._models.find("mixed", "").bundle.session
    score = type(session).score

    def counted(self: Any, matrix: Any) -> Any:
        scored.append(len(matrix))
        return score(self, matrix)

    monkeypatch.setattr(type(session), "score", counted)
    rows = _matrix([_GOOD_VECTOR] * 2_000)
    assert _error(service, Call(0.0, (), str), matrix=rows).code is Code.DEADLINE_EXCEEDED
    assert scored == []
    call = Call(math.inf, (), str)
    work = service.predict_batch(PredictBatchRequest(model="mixed", matrix=rows).SerializeToString(), call)
    next(work)
    next(work)
    assert sum(scored) == scoring._STEP
    call.deadline = 0.0
    with pytest.raises(StatusError) as caught:
        next(work)
    assert caught.value.code is Code.DEADLINE_EXCEEDED
    assert sum(scored) == scoring._STEP
    with pytest.raises(StatusError) as caught:
        _stream(service, Call(0.0, (), str), matrix=rows)
    assert caught.value.code is Code.DEADLINE_EXCEEDED


@pytest.mark.parametrize("handle", ["predict_batch", "predict_stream"])
def test_few_rows_take_one_step_and_many_do_not(mixed: PredictionService, handle: str) -> None:
    message = PredictBatchRequest if handle == "predict_batch" else PredictStreamRequest
    for fields, steps in (
        ({"matrix": _matrix([_GOOD_VECTOR] * 64)}, 1),
        ({"matrix": _matrix([_GOOD_VECTOR] * 65)}, 2),
        ({"records": _records([_GOOD] * 16)}, 1),
        ({"records": _records([_GOOD] * 17)}, 2),
        ({"records": _records([_GOOD] * 130)}, 4),
        ({"matrix": _matrix([_GOOD_VECTOR] * _MOST)}, 3),
    ):
        work = getattr(mixed, handle)(message(model="mixed", **fields).SerializeToString(), _CALL)
        assert sum(1 for _ in work) + 1 == steps


@pytest.mark.parametrize("levels", [2, 128, 129, 300])
def test_columns_are_what_protobuf_itself_would_write(
    tmp_path: Path, write_mixed: Callable[..., Path], levels: int
) -> None:
    steps = tuple(RiskLevel(f"level-{number}", number / 512) for number in range(levels))
    write_mixed(tmp_path, risk_levels=(*steps[:-1], RiskLevel("top", 0.75)))
    service = _service(tmp_path)
    rows = [(float(i % 101), 18.0 + i % 80, float(i % 3), float(i % 2), float(i)) for i in range(_MOST)]
    found = _batch(service, matrix=_matrix(rows)).classifications
    alone = [_stream(service, vector=Vector(values=row)).classification for row in rows[::7]]
    assert [found.risk_levels[place] for place in found.risk_level_indices[::7]] == [
        row.risk_level for row in alone
    ]
    assert list(found.probabilities[::7]) == [row.probability for row in alone]
    written = Classifications(
        probabilities=list(found.probabilities),
        label_indices=list(found.label_indices),
        risk_level_indices=list(found.risk_level_indices),
        labels=list(found.labels),
        risk_levels=list(found.risk_levels),
        threshold=found.threshold,
    )
    assert written.SerializeToString() == found.SerializeToString()
    assert len(set(found.risk_level_indices)) > (1 if levels == 2 else 20)
