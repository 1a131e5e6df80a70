"""Predict, from a serialised request to a serialised answer, without a transport."""

import base64
import math
import shutil
import struct
import threading
import urllib.parse
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from forest.v1.prediction_service_pb2 import PredictRequest, PredictResponse, Record, Value, Vector
from google.rpc.error_details_pb2 import BadRequest
from google.rpc.status_pb2 import Status
from hypothesis import given, settings
from hypothesis import strategies as st

from server.call import Call
from server.models import Models
from server.prediction_service import PredictionService
from server.status import Code, StatusError

_CALL = Call(math.inf, (), lambda: "nobody")
_GOOD = {"amount": 50.0, "age": 40.0, "country": "fr", "member": True, "balance": 8.0}
_GOOD_VECTOR = [50.0, 40.0, 1.0, 1.0, 8.0]


def _service(models_folder: Path) -> tuple[PredictionService, Models]:
    models = Models(models_folder)
    models.load()
    return PredictionService(models), models


@pytest.fixture(scope="module")
def mixed(mixed_bundle: Path) -> PredictionService:
    return _service(mixed_bundle.parents[1])[0]


@pytest.fixture(scope="module")
def fraud(fraud_bundle: Path) -> PredictionService:
    return _service(fraud_bundle.parents[1])[0]


def _value(value: Any) -> Value:
    if value is None:
        return Value()
    if isinstance(value, bool):
        return Value(flag=value)
    return Value(text=value) if isinstance(value, str) else Value(number=value)


def _by_name(record: dict[str, Any], **fields: Any) -> PredictRequest:
    features = {name: _value(value) for name, value in record.items()}
    return PredictRequest(**{"model": "mixed", "record": Record(features=features)} | fields)


def _by_position(values: list[float], **fields: Any) -> PredictRequest:
    return PredictRequest(**{"model": "mixed", "vector": Vector(values=values)} | fields)


def _predict(service: PredictionService, request: PredictRequest, call: Call = _CALL) -> PredictResponse:
    return PredictResponse.FromString(service.predict(request.SerializeToString(), call))


def _error(service: PredictionService, request: PredictRequest | bytes, call: Call = _CALL) -> StatusError:
    data = request if isinstance(request, bytes) else request.SerializeToString()
    with pytest.raises(StatusError) as caught:
        service.predict(data, call)
    return caught.value


def _violations(error: StatusError) -> list[tuple[str, str]]:
    """Return field and reason of each violation, as a client decodes them."""
    assert error.code is Code.INVALID_ARGUMENT
    status = Status.FromString(error.to_bytes())
    assert (status.code, status.message) == (error.code, error.message)
    request = BadRequest()
    assert len(status.details) == 1
    assert status.details[0].Unpack(request)
    assert all(violation.description for violation in request.field_violations)
    return [(violation.field, violation.reason) for violation in request.field_violations]


# Answers.


def test_a_record_and_a_vector_give_the_score_that_is_known_by_hand(
    mixed: PredictionService, mixed_score: Callable[..., float]
) -> None:
    expected = mixed_score((50.0, 40.0, 1.0, 1.0, 8.0))
    for request in (_by_name(_GOOD), _by_position(_GOOD_VECTOR)):
        answer = _predict(mixed, request).classification
        assert answer.probability == expected
        assert (answer.label, answer.risk_level, answer.threshold) == ("yes", "low", 0.3)


def test_a_records_order_does_not_matter(mixed: PredictionService) -> None:
    backwards = dict(reversed(_GOOD.items()))
    assert _predict(mixed, _by_name(backwards)) == _predict(mixed, _by_name(_GOOD))


@pytest.mark.parametrize(
    ("change", "codes"),
    [
        ({"country": "de"}, (50.0, 40.0, 0.0, 1.0, 8.0)),
        ({"country": "ελ"}, (50.0, 40.0, 2.0, 1.0, 8.0)),
        ({"member": False}, (50.0, 40.0, 1.0, 0.0, 8.0)),
        ({"country": None}, (50.0, 40.0, math.nan, 1.0, 8.0)),
        ({"amount": None}, (math.nan, 40.0, 1.0, 1.0, 8.0)),
        ({"amount": math.nan, "country": None}, (math.nan, 40.0, math.nan, 1.0, 8.0)),
    ],
    ids=str,
)
def test_categories_flags_and_missing_values_are_encoded_by_the_manifest(
    mixed: PredictionService, mixed_score: Callable[..., float], change: dict[str, Any], codes: tuple[float]
) -> None:
    expected = mixed_score(codes)
    assert _predict(mixed, _by_name(_GOOD | change)).classification.probability == expected
    assert _predict(mixed, _by_position(list(codes))).classification.probability == expected


def test_an_absent_feature_with_a_rule_is_a_missing_value(mixed: PredictionService) -> None:
    absent = {name: value for name, value in _GOOD.items() if name not in ("amount", "country")}
    assert _predict(mixed, _by_name(absent)) == _predict(
        mixed, _by_name(_GOOD | {"amount": None, "country": None})
    )


def test_an_answer_names_request_model_version_and_digest(fraud: PredictionService) -> None:
    model = fraud._models.find("fraud", "")
    for identifier in ("", "a", "ö\n\0" * 100):
        request = PredictRequest(model="fraud", vector=Vector(values=[0.0] * 30), request_id=identifier)
        answer = _predict(fraud, request)
        assert answer.request_id == identifier
        assert (answer.model, answer.version, answer.digest) == ("fraud", "1.0.0", model.digest)
        request.version = "1.0.0"
        assert _predict(fraud, request) == answer


def test_a_value_out_of_the_training_range_is_a_warning(mixed: PredictionService) -> None:
    answer = _predict(mixed, _by_name(_GOOD | {"amount": 100.5}))
    (warning,) = answer.warnings
    assert (warning.feature, warning.reason) == ("amount", warning.REASON_OUT_OF_TRAINING_RANGE)
    assert "100.5" in warning.message
    assert "0 to 100" in warning.message
    assert _predict(mixed, _by_position([100.5, *_GOOD_VECTOR[1:]])) == answer
    assert not _predict(mixed, _by_name(_GOOD | {"amount": 100.0})).warnings


@settings(max_examples=100, deadline=None)
@given(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=30, max_size=30))
def test_by_name_and_by_position_give_the_same_bits(fraud: PredictionService, values: list[float]) -> None:
    names = [feature.name for feature in fraud._models.find("fraud", "").manifest.features]
    record = {name: _value(value) for name, value in zip(names, values, strict=True)}
    by_name = PredictRequest(model="fraud", record=Record(features=record))
    by_position = PredictRequest(model="fraud", vector=Vector(values=values))
    assert fraud.predict(by_name.SerializeToString(), _CALL) == fraud.predict(
        by_position.SerializeToString(), _CALL
    )


def test_threads_that_score_at_once_each_get_their_own_rows_answer(
    mixed: PredictionService, mixed_score: Callable[..., float]
) -> None:
    rows = [(float(i % 101), 18.0 + i % 80, float(i % 3), float(i % 2), float(i)) for i in range(400)]
    barrier = threading.Barrier(8)

    def score(offset: int) -> list[tuple[float, float]]:
        barrier.wait()
        chosen = rows[offset:] + rows[:offset]
        return [
            (_predict(mixed, _by_position(list(row))).classification.probability, mixed_score(row))
            for row in chosen
        ]

    with ThreadPoolExecutor(8) as pool:
        for scored in pool.map(score, range(0, 400, 50)):
            assert all(found == expected for found, expected in scored)


# Errors of the input.


@pytest.mark.parametrize(
    ("change", "violations"),
    [
        ({"tiers": 1.0}, [("rows[0].tiers", "UNKNOWN_FEATURE")]),
        ({"age": None}, [("rows[0].age", "MISSING_FEATURE")]),
        ({"age": math.nan}, [("rows[0].age", "MISSING_VALUE")]),
        ({"member": None}, [("rows[0].member", "MISSING_FEATURE")]),
        ({"country": "uk"}, [("rows[0].country", "UNKNOWN_CATEGORY")]),
        ({"country": ""}, [("rows[0].country", "UNKNOWN_CATEGORY")]),
        ({"country": 1.0}, [("rows[0].country", "WRONG_TYPE")]),
        ({"age": "40"}, [("rows[0].age", "WRONG_TYPE")]),
        ({"age": True}, [("rows[0].age", "WRONG_TYPE")]),
        ({"member": 1.0}, [("rows[0].member", "WRONG_TYPE")]),
        ({"member": "true"}, [("rows[0].member", "WRONG_TYPE")]),
        ({"amount": math.inf}, [("rows[0].amount", "NOT_FINITE")]),
        ({"balance": -math.inf}, [("rows[0].balance", "NOT_FINITE")]),
        ({"balance": 1e39}, [("rows[0].balance", "NOT_FINITE")]),
        ({"balance": -1.8e308}, [("rows[0].balance", "NOT_FINITE")]),
        ({"age": 17.0}, [("rows[0].age", "OUT_OF_RANGE")]),
        (
            {"age": "x", "tiers": 1.0, "country": "uk", "balance": None},
            [
                ("rows[0].tiers", "UNKNOWN_FEATURE"),
                ("rows[0].age", "WRONG_TYPE"),
                ("rows[0].country", "UNKNOWN_CATEGORY"),
                ("rows[0].balance", "MISSING_FEATURE"),
            ],
        ),
    ],
    ids=str,
)
def test_a_records_faults_name_row_feature_and_reason(
    mixed: PredictionService, change: dict[str, Any], violations: list[tuple[str, str]]
) -> None:
    error = _error(mixed, _by_name(_GOOD | change))
    assert _violations(error) == violations
    assert error.message.startswith("row 0: ")
    assert violations[0][0].partition(".")[2] in error.message


@pytest.mark.parametrize(
    ("values", "violations"),
    [
        ([], [("rows[0]", "WRONG_LENGTH")]),
        (_GOOD_VECTOR[:4], [("rows[0]", "WRONG_LENGTH")]),
        ([*_GOOD_VECTOR, 1.0], [("rows[0]", "WRONG_LENGTH")]),
        ([50.0, math.nan, 1.0, 1.0, 8.0], [("rows[0].age", "MISSING_VALUE")]),
        ([50.0, 40.0, 1.0, math.nan, 8.0], [("rows[0].member", "MISSING_VALUE")]),
        (
            [math.inf, 40.0, 1.0, 1.0, -math.inf],
            [("rows[0].amount", "NOT_FINITE"), ("rows[0].balance", "NOT_FINITE")],
        ),
        ([50.0, 40.0, 3.0, 1.0, 8.0], [("rows[0].country", "UNKNOWN_CATEGORY")]),
        ([50.0, 40.0, 0.5, 1.0, 8.0], [("rows[0].country", "UNKNOWN_CATEGORY")]),
        ([50.0, 40.0, -1.0, 1.0, 8.0], [("rows[0].country", "UNKNOWN_CATEGORY")]),
        ([50.0, 40.0, 1.0, 2.0, 8.0], [("rows[0].member", "UNKNOWN_CATEGORY")]),
        ([50.0, 100.0, 1.0, 1.0, 8.0], [("rows[0].age", "OUT_OF_RANGE")]),
    ],
    ids=str,
)
def test_a_vectors_faults_name_row_feature_and_reason(
    mixed: PredictionService, values: list[float], violations: list[tuple[str, str]]
) -> None:
    error = _error(mixed, _by_position(values))
    assert _violations(error) == violations
    if violations[0][1] == "WRONG_LENGTH":
        assert f"{len(values)} values" in error.message
        assert "5 features" in error.message


def test_a_fault_leaves_no_trace_in_the_next_answer(mixed: PredictionService) -> None:
    before = _predict(mixed, _by_name(_GOOD))
    for wrong in ({"balance": 1e39}, {"country": "uk"}, {"amount": math.nan, "age": None}):
        _error(mixed, _by_name(_GOOD | wrong))
        _error(mixed, _by_position([math.nan] * 5))
        assert _predict(mixed, _by_name(_GOOD)) == before


def test_a_request_without_a_row_says_what_to_set(mixed: PredictionService) -> None:
    error = _error(mixed, PredictRequest(model="mixed"))
    assert _violations(error) == [("input", "MISSING_INPUT")]
    assert "'record'" in error.message


def test_an_empty_record_misses_every_feature_without_a_rule(mixed: PredictionService) -> None:
    found = _violations(_error(mixed, _by_name({})))
    assert found == [(f"rows[0].{name}", "MISSING_FEATURE") for name in ("age", "member", "balance")]


@pytest.mark.parametrize("data", [b"\xff", b"\x0a\x05ab", b"\x0a\x01\xff", b"\x22\x01\xff"], ids=repr)
def test_bytes_that_are_no_request_are_invalid(mixed: PredictionService, data: bytes) -> None:
    error = _error(mixed, data)
    assert error.code is Code.INVALID_ARGUMENT
    assert "forest.v1.PredictRequest" in error.message


def _trailers(error: StatusError) -> int:
    """Return the size of an error's trailers, as HTTP/2 counts them."""
    details = len(base64.b64encode(error.to_bytes())) if error.details else 0
    message = len(urllib.parse.quote(error.message, safe=" !\"#$&'()*+,-./:;<=>?@[\\]^_`{|}~"))
    return details + message + len("grpc-statusgrpc-messagegrpc-status-details-bin") + 3 * 32 + 2


@pytest.mark.parametrize("letter", ["x", "ß", "漢", "🦀", "\0", "\n", "%", "\u202e"])
@pytest.mark.parametrize(("count", "length"), [(10_000, 60), (100, 5_000), (1, 1_000_000)])
def test_errors_fit_into_a_clients_trailers_whatever_the_names(
    mixed: PredictionService, letter: str, count: int, length: int
) -> None:
    names = {f"{number}{letter * length}": 1.0 for number in range(count)}
    error = _error(mixed, _by_name(_GOOD | names))
    assert _trailers(error) < 8192
    found = _violations(error)
    assert all(reason == "UNKNOWN_FEATURE" for _, reason in found)
    assert found[0][0].startswith(f"rows[0].0{letter}")
    assert "the model has no such feature" in error.message
    assert count == 1 or f"and {count - 1} more" in error.message


@pytest.mark.parametrize("letter", ["x", "🦀", "\0"])
def test_other_errors_fit_as_well(mixed: PredictionService, letter: str) -> None:
    long = letter * 500_000
    for request in (
        _by_name(_GOOD, model=long),
        _by_name(_GOOD, version=long),
        _by_name(_GOOD | {"country": long}),
        _by_name(_GOOD | {"age": long}),
    ):
        assert _trailers(_error(mixed, request)) < 8192


# Errors of anything else.


def test_an_unknown_model_or_version_is_not_found_and_says_what_is_here(mixed: PredictionService) -> None:
    for fields, told in (
        ({"model": "fraut"}, ["'fraut'", "mixed"]),
        ({"model": ""}, ["names no model", "mixed"]),
        ({"version": "2.0.0"}, ["'2.0.0'", "1.0.0"]),
        ({"version": "1.0"}, ["'1.0'", "1.0.0"]),
    ):
        error = _error(mixed, _by_name(_GOOD, **fields))
        assert error.code is Code.NOT_FOUND
        assert all(word in error.message for word in told), error.message


def test_a_refused_bundle_is_unavailable_with_the_reason(mixed_bundle: Path, tmp_path: Path) -> None:
    shutil.copytree(mixed_bundle.parent, tmp_path / "mixed")
    (tmp_path / "mixed/1.0.0/model.onnx").write_bytes(b"tampered")
    service, _ = _service(tmp_path)
    error = _error(service, _by_name(_GOOD))
    assert error.code is Code.UNAVAILABLE
    assert "mixed 1.0.0 is not served: model.onnx: its digest is" in error.message
    (tmp_path / "mixed/1.0.0/manifest.json").write_text('{"%s": 1}' % ("🦀" * 100_000))
    error = _error(_service(tmp_path)[0], _by_name(_GOOD))
    assert error.code is Code.UNAVAILABLE
    assert _trailers(error) < 8192


def test_no_work_is_done_after_the_deadline(mixed: PredictionService) -> None:
    # A row that would be refused is not even looked at.
    error = _error(mixed, _by_name({}), Call(0.0, (), lambda: "nobody"))
    assert error.code is Code.DEADLINE_EXCEEDED


def test_closed_models_take_no_work(mixed_bundle: Path) -> None:
    service, models = _service(mixed_bundle.parents[1])
    _predict(service, _by_name(_GOOD))
    models.close()
    assert _error(service, _by_name(_GOOD)).code is Code.UNAVAILABLE


# Whatever comes in: an answer, or an error that is the caller's.

_TEXTS = st.text(max_size=20) | st.sampled_from(["de", "fr", "ελ", "uk"])
_NAMES = st.sampled_from(list(_GOOD)) | st.text(max_size=10)
_VALUES = st.one_of(
    st.none(),
    st.floats(),
    st.floats(width=32),
    st.booleans(),
    _TEXTS,
    st.sampled_from([0.0, 1.0, 40.0, -0.0]),
)
_REQUESTS = st.one_of(
    st.builds(
        lambda base, record, **fields: _by_name((_GOOD if base else {}) | record, **fields),
        st.booleans(),
        st.dictionaries(_NAMES, _VALUES, max_size=8),
        request_id=st.text(max_size=10),
        version=st.sampled_from(["", "1.0.0", "2"]),
    ),
    st.builds(_by_position, st.lists(st.floats(width=32), max_size=7), request_id=st.text(max_size=10)),
    st.builds(
        _by_position,
        st.tuples(*[st.sampled_from([0.0, 1.0, 2.0, 40.0, math.nan, -0.0]) | st.floats(width=32)] * 5).map(
            list
        ),
    ),
)


def _answered_or_refused(service: PredictionService, data: bytes) -> None:
    refusal = None
    try:
        answer = PredictResponse.FromString(service.predict(data, _CALL))
    except StatusError as error:
        refusal = error
    if refusal:
        assert refusal.code in (Code.INVALID_ARGUMENT, Code.NOT_FOUND)
        assert refusal.message
        assert _trailers(refusal) < 8192
        return
    request = PredictRequest.FromString(data)
    assert answer.request_id == request.request_id
    assert answer.digest.startswith("sha256:")
    assert math.isfinite(answer.classification.probability)
    assert answer.classification.label in ("no", "yes")


@settings(max_examples=300, deadline=None)
@given(_REQUESTS)
def test_any_request_is_answered_or_refused(mixed: PredictionService, request: PredictRequest) -> None:
    _answered_or_refused(mixed, request.SerializeToString())


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_are_answered_or_refused(mixed: PredictionService, data: bytes) -> None:
    _answered_or_refused(mixed, data)
    _answered_or_refused(mixed, b"\x0a\x05mixed" + data)


@settings(max_examples=300, deadline=None)
@given(_REQUESTS, st.data())
def test_any_damaged_request_is_answered_or_refused(
    mixed: PredictionService, request: PredictRequest, data: st.DataObject
) -> None:
    damaged = bytearray(request.SerializeToString())
    for _ in range(data.draw(st.integers(1, 4))):
        position = data.draw(st.integers(0, len(damaged) - 1))
        match data.draw(st.sampled_from(["change", "cut", "insert"])):
            case "change":
                damaged[position] = data.draw(st.integers(0, 255))
            case "cut":
                del damaged[position:]
                break
            case "insert":
                damaged[position:position] = data.draw(st.binary(min_size=1, max_size=4))
    _answered_or_refused(mixed, bytes(damaged))


def test_a_vector_that_is_not_packed_is_read_all_the_same(mixed: PredictionService) -> None:
    unpacked = b"".join(b"\x0d" + struct.pack("<f", value) for value in _GOOD_VECTOR)
    data = b"\x0a\x05mixed" + b"\x22" + bytes([len(unpacked)]) + unpacked
    assert PredictResponse.FromString(mixed.predict(data, _CALL)) == _predict(
        mixed, _by_position(_GOOD_VECTOR)
    )
