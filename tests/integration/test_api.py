"""The API over the wire, from the real process, with the generated stubs."""

import shutil
import subprocess
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import pytest
from forest.v1 import model_service_pb2, prediction_service_pb2
from forest.v1.model_service_pb2_grpc import ModelServiceStub
from forest.v1.prediction_service_pb2 import PredictRequest, Record, Value, Vector
from forest.v1.prediction_service_pb2_grpc import PredictionServiceStub
from google.protobuf.descriptor_pool import DescriptorPool
from google.rpc import error_details_pb2, status_pb2
from grpc_reflection.v1alpha import reflection_pb2
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

_SERVICES = [
    *("forest.v1.ModelService", "forest.v1.PredictionService", "grpc.health.v1.Health"),
    "inference.GRPCInferenceService",
]
_TIMEOUT = 10


@pytest.fixture
def channel(server: Any, connect: Callable[..., Any]) -> Iterator[grpc.Channel]:
    with connect(server.target) as opened:
        yield opened


@pytest.fixture
def prediction(channel: grpc.Channel) -> PredictionServiceStub:
    return PredictionServiceStub(channel)


def _record(names: list[str], values: list[float]) -> Record:
    return Record(features={name: Value(number=value) for name, value in zip(names, values, strict=True)})


def test_every_golden_row_scores_as_trained_by_name_and_by_position(
    prediction: PredictionServiceStub, names: list[str], golden: list[Any]
) -> None:
    assert len(golden) > 50
    for number, row in enumerate(golden):
        by_position = prediction.Predict(
            PredictRequest(model="fraud", vector=Vector(values=row.values), request_id=str(number)),
            timeout=_TIMEOUT,
        )
        by_name = prediction.Predict(
            PredictRequest(model="fraud", record=_record(names, row.values), request_id=str(number)),
            timeout=_TIMEOUT,
        )
        assert by_name == by_position
        assert by_name.request_id == str(number)
        assert by_name.classification.label == row.label
        assert abs(by_name.classification.probability - row.probability) <= 1e-6


def test_input_errors_name_feature_row_and_reason_over_the_wire(
    prediction: PredictionServiceStub, names: list[str], golden: list[Any]
) -> None:
    record = _record(names, golden[0].values)
    del record.features["V7"]
    record.features["Ämount"].number = 1
    record.features["V1"].text = "1"
    with pytest.raises(grpc.RpcError) as caught:
        prediction.Predict(PredictRequest(model="fraud", record=record), timeout=_TIMEOUT)
    error = caught.value
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert error.details() == "row 0: Ämount: the model has no such feature (and 2 more)"
    status = status_pb2.Status.FromString(dict(error.trailing_metadata())["grpc-status-details-bin"])
    assert status.message == error.details()
    request = error_details_pb2.BadRequest()
    assert status.details[0].Unpack(request)
    assert [(violation.field, violation.reason) for violation in request.field_violations] == [
        ("rows[0].Ämount", "UNKNOWN_FEATURE"),
        ("rows[0].V1", "WRONG_TYPE"),
        ("rows[0].V7", "MISSING_FEATURE"),
    ]


@pytest.mark.parametrize("letter", ["x", "🦀"])
def test_an_error_of_ten_thousand_faults_reaches_the_client(
    prediction: PredictionServiceStub, names: list[str], golden: list[Any], letter: str
) -> None:
    record = _record(names, golden[0].values)
    for number in range(10_000):
        record.features[f"{number}{letter * 30}"].number = 1
    for _ in range(10):
        with pytest.raises(grpc.RpcError) as caught:
            prediction.Predict(PredictRequest(model="fraud", record=record), timeout=_TIMEOUT)
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert "and 9999 more" in caught.value.details()
        assert "grpc-status-details-bin" in dict(caught.value.trailing_metadata())


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"model": "fraud"}, grpc.StatusCode.INVALID_ARGUMENT),
        ({"model": "fraud", "vector": Vector(values=[1.0])}, grpc.StatusCode.INVALID_ARGUMENT),
        ({"model": "fraud", "vector": Vector(values=[float("nan")] * 30)}, grpc.StatusCode.INVALID_ARGUMENT),
        ({"model": "fraud", "vector": Vector(values=[float("inf")] * 30)}, grpc.StatusCode.INVALID_ARGUMENT),
        ({"model": "frog", "vector": Vector(values=[0.0] * 30)}, grpc.StatusCode.NOT_FOUND),
        ({"model": "fraud", "version": "9.9.9", "vector": Vector()}, grpc.StatusCode.NOT_FOUND),
        ({}, grpc.StatusCode.NOT_FOUND),
    ],
    ids=str,
)
def test_errors_have_their_status_over_the_wire(
    prediction: PredictionServiceStub, fields: dict[str, Any], code: grpc.StatusCode
) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        prediction.Predict(PredictRequest(**fields), timeout=_TIMEOUT)
    assert caught.value.code() is code
    assert caught.value.details()


def test_a_request_beyond_the_limit_is_refused_and_the_error_says_both_sizes(
    prediction: PredictionServiceStub,
) -> None:
    request = PredictRequest(model="fraud", vector=Vector(values=[0.0] * 2_000_000))
    with pytest.raises(grpc.RpcError) as caught:
        prediction.Predict(request, timeout=_TIMEOUT)
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert str(request.ByteSize()) in caught.value.details()
    assert str(4 * 1024 * 1024) in caught.value.details()


def test_a_value_out_of_the_training_range_is_a_warning(
    prediction: PredictionServiceStub, names: list[str], golden: list[Any]
) -> None:
    record = _record(names, golden[0].values)
    record.features["Amount"].number = 1e9
    answer = prediction.Predict(PredictRequest(model="fraud", record=record), timeout=_TIMEOUT)
    (warning,) = [warning for warning in answer.warnings if warning.feature == "Amount"]
    assert warning.reason == prediction_service_pb2.InputWarning.REASON_OUT_OF_TRAINING_RANGE
    assert "1e+09" in warning.message


def test_model_service_tells_of_the_model_that_answers(
    channel: grpc.Channel, prediction: PredictionServiceStub, names: list[str], golden: list[Any]
) -> None:
    models = ModelServiceStub(channel)
    (listed,) = models.ListModels(model_service_pb2.ListModelsRequest(), timeout=_TIMEOUT).models
    got = models.GetModel(model_service_pb2.GetModelRequest(model="fraud"), timeout=_TIMEOUT).model
    assert got == listed
    assert [feature.name for feature in got.features] == names
    assert got.state == model_service_pb2.MODEL_STATE_SERVING
    answer = prediction.Predict(
        PredictRequest(model="fraud", vector=Vector(values=golden[0].values)), timeout=_TIMEOUT
    )
    assert (answer.version, answer.digest) == (got.version, got.digest)
    assert answer.classification.threshold == got.threshold
    assert answer.classification.label in got.labels


def test_reflection_v1alpha_is_enough_to_call_without_proto_files(channel: grpc.Channel) -> None:
    database = ProtoReflectionDescriptorDatabase(channel)
    assert set(_SERVICES) <= set(database.get_services())
    pool = DescriptorPool(database)
    for name in _SERVICES:
        assert pool.FindServiceByName(name).full_name == name
    method = pool.FindServiceByName("forest.v1.PredictionService").methods_by_name["Predict"]
    assert method.input_type.full_name == "forest.v1.PredictRequest"
    with pytest.raises(KeyError):
        pool.FindServiceByName("forest.v1.NoService")


@pytest.mark.parametrize("version", ["v1", "v1alpha"])
def test_reflection_answers_every_question_and_goes_on_after_an_error(
    channel: grpc.Channel, version: str
) -> None:
    # The messages of v1 are those of v1alpha under another name.
    ask = channel.stream_stream(
        f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo",
        request_serializer=reflection_pb2.ServerReflectionRequest.SerializeToString,
        response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
    )
    question = reflection_pb2.ServerReflectionRequest
    services, missing, file, symbol, nothing, extensions = ask(
        iter(
            [
                question(list_services="*"),
                question(file_by_filename="none.proto"),
                question(file_by_filename="forest/v1/prediction_service.proto"),
                question(file_containing_symbol="forest.v1.ModelService.GetModel"),
                question(),
                question(all_extension_numbers_of_type="forest.v1.PredictRequest"),
            ]
        ),
        timeout=_TIMEOUT,
    )
    names = [service.name for service in services.list_services_response.service]
    assert set(_SERVICES) <= set(names)
    assert names == sorted(names)
    assert missing.error_response.error_code == grpc.StatusCode.NOT_FOUND.value[0]
    assert missing.original_request.file_by_filename == "none.proto"
    assert file.file_descriptor_response.file_descriptor_proto
    assert symbol.file_descriptor_response.file_descriptor_proto
    assert nothing.error_response.error_code == grpc.StatusCode.INVALID_ARGUMENT.value[0]
    assert extensions.HasField("error_response")


@pytest.mark.skipif(shutil.which("grpcurl") is None, reason="grpcurl is not on PATH")
def test_grpcurl_lists_and_calls_without_proto_files(server: Any) -> None:
    def grpcurl(*arguments: str) -> str:
        return subprocess.run(
            ["grpcurl", "-plaintext", *arguments], capture_output=True, text=True, check=True, timeout=30
        ).stdout

    assert set(_SERVICES) <= set(grpcurl(server.target, "list").split())
    values = ", ".join(["0"] * 30)
    answer = grpcurl(
        "-d",
        f'{{"model": "fraud", "vector": {{"values": [{values}]}}}}',
        server.target,
        "forest.v1.PredictionService/Predict",
    )
    assert '"probability"' in answer
