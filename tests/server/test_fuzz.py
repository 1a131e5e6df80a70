"""Requests damaged on purpose, for every method: each is answered or refused, and as protobuf reads it."""

import math
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from forest.v1 import model_service_pb2, prediction_service_pb2
from forest.v1.prediction_service_pb2 import Matrix, Record, Records, Value, Vector
from google.protobuf.message import DecodeError, Message
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2
from hypothesis import given, settings
from hypothesis import strategies as st
from inference import grpc_service_pb2 as inference_pb2

from server.admission import Admission
from server.call import Call, Handler, Subscription
from server.health import Health
from server.inference_service import InferenceService
from server.model_service import ModelService
from server.models import Models
from server.prediction_service import PredictionService
from server.reflection import Reflection
from server.status import Code, StatusError

_CALL = Call(math.inf, (), lambda: "nobody")
_MOST = 200
# What a request's bytes, or what they ask for, may be answered. INTERNAL and UNKNOWN are never among them.
_OF_THE_CALLER = (Code.INVALID_ARGUMENT, Code.NOT_FOUND)
_RECORD = Record(
    features={
        "amount": Value(number=50.0),
        "age": Value(number=40.0),
        "country": Value(text="fr"),
        "member": Value(flag=True),
        "balance": Value(number=8.0),
    }
)
_VECTOR = Vector(values=[50.0, 40.0, 1.0, 1.0, 8.0])
_NUMBERS = struct.pack("<15f", *3 * list(_VECTOR.values))
_MATRIX = Matrix(rows=3, columns=5, data=_NUMBERS)
_TENSOR = inference_pb2.ModelInferRequest.InferInputTensor


class _Target(NamedTuple):
    """A method, its messages, and requests that are right."""

    handle: Handler
    request: type[Message]
    response: type[Message]
    seeds: list[bytes]


def _targets(models: Models, admission: Admission) -> dict[str, _Target]:
    health = Health(["", "readiness"])
    seeds: dict[str, list[dict[str, Any]]] = {
        "Predict": [
            {"model": "mixed", "record": _RECORD, "request_id": "a"},
            {"model": "mixed", "vector": _VECTOR},
        ],
        "PredictBatch": [
            {"model": "mixed", "records": Records(records=[_RECORD] * 3), "request_id": "a"},
            {"model": "mixed", "matrix": _MATRIX},
        ],
        "PredictStream": [
            {"model": "mixed", "record": _RECORD, "request_id": "a"},
            {"model": "mixed", "vector": _VECTOR},
            {"model": "mixed", "records": Records(records=[_RECORD] * 2)},
            {"model": "mixed", "matrix": _MATRIX, "request_id": "b"},
        ],
        "ListModels": [{"page_size": 1, "page_token": "0"}],
        "GetModel": [{"model": "mixed", "version": "1.0.0"}],
        "ServerLive": [{}],
        "ServerReady": [{}],
        "ModelReady": [{"name": "mixed", "version": "1.0.0"}],
        "ServerMetadata": [{}],
        "ModelMetadata": [{"name": "mixed"}],
        "ModelInfer": [
            {
                "model_name": "mixed",
                "id": "a",
                "inputs": [_TENSOR(name="matrix", datatype="FP32", shape=[3, 5])],
                "raw_input_contents": [_NUMBERS],
            },
            {
                "model_name": "mixed",
                "inputs": [
                    _TENSOR(
                        name="matrix",
                        datatype="FP64",
                        shape=[1, 5],
                        contents=inference_pb2.InferTensorContents(fp64_contents=_VECTOR.values),
                    )
                ],
            },
        ],
        "Check": [{"service": "readiness"}],
        "List": [{}],
        "ServerReflectionInfo": [
            {"host": "x", "list_services": ""},
            {"file_containing_symbol": "forest.v1.PredictionService.Predict"},
            {"file_by_filename": "forest/v1/model_service.proto"},
        ],
    }
    messages = {
        PredictionService.name: (PredictionService(models, admission), prediction_service_pb2),
        ModelService.name: (ModelService(models, _MOST), model_service_pb2),
        InferenceService.name: (InferenceService(models, health, admission), inference_pb2),
        Health.name: (health, health_pb2),
        Reflection.names[1]: (Reflection(list(Reflection.names)), reflection_pb2),
    }
    targets = {}
    for service, (handlers, module) in messages.items():
        described = module.DESCRIPTOR.services_by_name[service.rpartition(".")[2]]
        for name, method in handlers.methods().items():
            if isinstance(method, Subscription):
                # Watch: its request is read as that of Check.
                continue
            takes, gives = (
                getattr(module, kind.name)
                for kind in (
                    described.methods_by_name[name].input_type,
                    described.methods_by_name[name].output_type,
                )
            )
            targets[name] = _Target(
                method.handle,
                takes,
                gives,
                [takes(**fields).SerializeToString() for fields in seeds[name]],
            )
    assert targets.keys() == seeds.keys()
    return targets


class _Fuzzed(NamedTuple):
    targets: dict[str, _Target]
    admission: Admission


@pytest.fixture(scope="module")
def fuzzed(mixed_bundle: Path) -> _Fuzzed:
    models = Models(mixed_bundle.parents[1])
    models.load()
    admission = Admission(_MOST, 10 * _MOST)
    return _Fuzzed(_targets(models, admission), admission)


def _attempt(target: _Target, data: bytes) -> Message | StatusError:
    """Return what a method answers, or its error. Anything else that it raises is a fault."""
    try:
        answer = target.handle(data, _CALL)
        while not isinstance(answer, bytes):
            try:
                next(answer)
            except StopIteration as stopped:
                answer = stopped.value
        return target.response.FromString(answer)
    except StatusError as error:
        return error


def _refused(outcome: Message | StatusError) -> bool:
    if isinstance(outcome, prediction_service_pb2.PredictStreamResponse):
        return outcome.HasField("error")
    return isinstance(outcome, StatusError)


def _undecodable(outcome: Message | StatusError) -> bool:
    message = outcome.message if isinstance(outcome, StatusError) else ""
    if isinstance(outcome, prediction_service_pb2.PredictStreamResponse):
        message = outcome.error.message
    return message.startswith("the request is no ")


def _told(outcome: Message | StatusError) -> Any:
    return (outcome.code, outcome.to_bytes()) if isinstance(outcome, StatusError) else outcome


def _check(fuzzed: _Fuzzed, name: str, data: bytes) -> None:
    """Hold that a request is answered or refused, and as what protobuf reads in it."""
    target = fuzzed.targets[name]
    outcome = _attempt(target, data)
    if isinstance(outcome, StatusError):
        assert outcome.code in _OF_THE_CALLER
        assert len(outcome.to_bytes()) < 4000
    assert fuzzed.admission.rows == 0
    try:
        read = target.request.FromString(data)
    except DecodeError:
        # Nothing of what is damaged is scored, though many rows may be refused before they are read, as for a
        # model that is not here; List and health's like read nothing.
        assert name == "List" or _refused(outcome)
        return
    if _undecodable(outcome):
        # Large requests' outlines refuse more than protobuf does: rows that stand there twice, groups.
        assert name in ("PredictBatch", "PredictStream")
        return
    read.DiscardUnknownFields()
    again = _attempt(target, read.SerializeToString())
    if name == "ServerReflectionInfo":
        # It sends the request back, unknown fields and all.
        for each in (outcome, again):
            if isinstance(each, reflection_pb2.ServerReflectionResponse):
                each.ClearField("original_request")
    assert _bits(_told(again)) == _bits(_told(outcome))


def _bits(told: Any) -> Any:
    # NaN is not equal to itself; its bytes are.
    return told.SerializeToString(deterministic=True) if isinstance(told, Message) else told


_METHODS = [
    *("Predict", "PredictBatch", "PredictStream", "ListModels", "GetModel", "ModelInfer", "ModelMetadata"),
    *("ModelReady", "ServerLive", "ServerReady", "ServerMetadata", "Check", "List", "ServerReflectionInfo"),
]


def _varint(value: int) -> bytes:
    data = bytearray()
    while value > 127:
        data.append(value & 127 | 128)
        value >>= 7
    data.append(value)
    return bytes(data)


_VARINTS = st.sampled_from(
    [b"\xff" * 9 + b"\x01", b"\xff" * 10, b"\x80" * 9 + b"\x00", _varint(2**31), _varint(2**32 - 1), b"\x80"]
)
_TAGS = st.integers(1, 8).flatmap(lambda number: st.sampled_from([number << 3 | kind for kind in range(8)]))


def _nested(depth: int, tag: int) -> bytes:
    """Return a field within a field within a field."""
    data = b""
    for _ in range(depth):
        data = bytes([tag]) + _varint(len(data)) + data
    return data


_PIECES = st.one_of(
    st.binary(min_size=1, max_size=6),
    _VARINTS,
    st.tuples(_TAGS, _VARINTS).map(lambda drawn: bytes([drawn[0]]) + drawn[1]),
    st.builds(_nested, st.integers(1, 150), st.sampled_from([0x0A, 0x1A, 0x22, 0x2A])),
    st.integers(1, 150).map(lambda depth: b"\x0b" * depth + b"\x0c" * depth),
    st.integers(1, 300).map(lambda times: b"\x1a\x00" * times),
)


def _mutated(drawn: st.DataObject, seeds: list[bytes]) -> bytes:
    data = bytearray(drawn.draw(st.sampled_from(seeds)))
    for _ in range(drawn.draw(st.integers(1, 4))):
        place = drawn.draw(st.integers(0, len(data)))
        end = drawn.draw(st.integers(place, min(len(data), place + 40)))
        match drawn.draw(st.sampled_from(["flip", "cut", "drop", "splice", "repeat", "insert", "swap"])):
            case "flip" if place < len(data):
                data[place] ^= 1 << drawn.draw(st.integers(0, 7))
            case "cut":
                del data[place:]
            case "drop":
                del data[place:end]
            case "splice":
                other = drawn.draw(st.sampled_from(seeds))
                data[place:] = other[drawn.draw(st.integers(0, len(other))) :]
            case "repeat":
                data[place:place] = data[place:end] * drawn.draw(st.integers(1, 20))
            case "insert":
                data[place:place] = drawn.draw(_PIECES)
            case "swap":
                data[:] = data[place:] + data[:place]
    return bytes(data)


@pytest.mark.parametrize("name", _METHODS)
@given(drawn=st.data())
@settings(max_examples=150)
def test_a_damaged_request_is_answered_as_what_it_still_says_or_refused(
    fuzzed: _Fuzzed, name: str, drawn: st.DataObject
) -> None:
    own = fuzzed.targets[name].seeds
    every = [seed for target in fuzzed.targets.values() for seed in target.seeds]
    _check(fuzzed, name, _mutated(drawn, own if drawn.draw(st.integers(0, 3)) else every))


@pytest.mark.parametrize("name", _METHODS)
@given(data=st.binary(max_size=100))
@settings(max_examples=50)
def test_any_bytes_are_answered_or_refused(fuzzed: _Fuzzed, name: str, data: bytes) -> None:
    _check(fuzzed, name, data)


@pytest.mark.parametrize("name", _METHODS)
def test_a_request_that_is_right_is_answered(fuzzed: _Fuzzed, name: str) -> None:
    for seed in fuzzed.targets[name].seeds:
        outcome = _attempt(fuzzed.targets[name], seed)
        assert not isinstance(outcome, StatusError), outcome
        _check(fuzzed, name, seed)


# What broke it, or nearly.


def _in_field(number: int, data: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(data)) + data


@pytest.fixture(scope="module")
def names_without_end() -> bytes:
    """Return a serialised Record of nearly 4 MiB with half a million names."""
    return b"".join(_in_field(1, _in_field(1, b"%x" % number)) for number in range(470_000))


@pytest.mark.parametrize(
    ("name", "wrap"),
    [
        ("Predict", lambda record: _in_field(3, record)),
        ("PredictStream", lambda record: _in_field(3, record)),
        ("PredictBatch", lambda record: _in_field(3, _in_field(1, record))),
    ],
)
def test_a_record_with_names_without_end_is_refused_without_a_look_at_each(
    fuzzed: _Fuzzed, names_without_end: bytes, name: str, wrap: Callable[[bytes], bytes]
) -> None:
    field = fuzzed.targets[name].request.DESCRIPTOR.fields_by_name
    assert {key: field[key].number for key in ("record", "records") if key in field}.get("record", 3) == 3
    outcome = _attempt(fuzzed.targets[name], _in_field(1, b"mixed") + wrap(names_without_end))
    message = outcome.message if isinstance(outcome, StatusError) else outcome.error.message  # type: ignore[attr-defined]
    assert message == "row 0: 470000 values, but the model has 5 features: GetModel lists them"


def test_a_vector_without_end_is_refused_before_it_is_read(fuzzed: _Fuzzed) -> None:
    data = _in_field(1, b"mixed") + _in_field(4, _in_field(1, bytes(4_000_000)))
    outcome = _attempt(fuzzed.targets["Predict"], data)
    assert isinstance(outcome, StatusError)
    assert outcome.code is Code.INVALID_ARGUMENT
    assert "1000000 values, but the model has 5 features" in outcome.message


def test_a_score_below_every_risk_level_has_the_lowest_alone_and_in_a_batch(fuzzed: _Fuzzed) -> None:
    # No forest gives one. With a graph that did, a batch was INTERNAL and a row alone had the highest level.
    row = [50.0, 40.0, 1.0, 1.0, -32768.0]
    alone = _attempt(
        fuzzed.targets["Predict"],
        prediction_service_pb2.PredictRequest(model="mixed", vector=Vector(values=row)).SerializeToString(),
    )
    assert isinstance(alone, prediction_service_pb2.PredictResponse)
    assert alone.classification.probability < 0
    assert alone.classification.risk_level == "low"
    matrix = Matrix(rows=1, columns=5, data=struct.pack("<5f", *row))
    batch = _attempt(
        fuzzed.targets["PredictBatch"],
        prediction_service_pb2.PredictBatchRequest(model="mixed", matrix=matrix).SerializeToString(),
    )
    assert isinstance(batch, prediction_service_pb2.PredictBatchResponse)
    found = batch.classifications
    assert [found.risk_levels[place] for place in found.risk_level_indices] == ["low"]
    assert list(found.probabilities) == [alone.classification.probability]
