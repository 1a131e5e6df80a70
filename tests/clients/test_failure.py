import grpc
import pytest
from forest.v1.prediction_service_pb2 import PredictRequest, Record, Value
from forest.v1.prediction_service_pb2_grpc import PredictionServiceStub
from forest_client import Failure, Violation, failure_of, open_channel


@pytest.fixture
def predict(server):
    with open_channel(server.target) as channel:
        yield PredictionServiceStub(channel).Predict


def failure(predict, request, **options):
    with pytest.raises(grpc.RpcError) as caught:
        predict(request, **options)
    return failure_of(caught.value)


def test_every_fault_of_the_input(predict):
    record = Record(features={f"V{index}": Value(number=0) for index in range(1, 29)})
    record.features["Time"].number = 0
    record.features["Amount"].text = "much"
    record.features["Class"].number = 0
    found = failure(predict, PredictRequest(model="fraud", record=record))
    assert found.code is grpc.StatusCode.INVALID_ARGUMENT
    assert {(violation.field, violation.feature, violation.reason) for violation in found.violations} == {
        ("rows[0].Amount", "Amount", "WRONG_TYPE"),
        ("rows[0].Class", "Class", "UNKNOWN_FEATURE"),
    }
    assert all(violation.message.startswith(violation.feature) for violation in found.violations)


def test_a_feature_whose_name_has_a_dot():
    assert Violation("rows[0].a.b", "MISSING_FEATURE", "").feature == "a.b"
    assert Violation("model", "", "").feature == ""


def test_a_failure_without_details(predict):
    found = failure(predict, PredictRequest(model="none"))
    assert found.code is grpc.StatusCode.NOT_FOUND
    assert "none" in found.message
    assert found.violations == ()


def test_no_server():
    with open_channel("localhost:1") as channel:
        found = failure(PredictionServiceStub(channel).Predict, PredictRequest(model="fraud"))
    assert found.code is grpc.StatusCode.UNAVAILABLE
    assert found.violations == ()


class Broken(grpc.RpcError):
    """What grpc raises, with details that something on the way has spoiled."""

    def code(self):
        return grpc.StatusCode.INVALID_ARGUMENT

    def details(self):
        return "wrong"

    def trailing_metadata(self):
        return (("grpc-status-details-bin", b"\xff\xff"),)


def test_spoiled_details():
    assert failure_of(Broken()) == Failure(grpc.StatusCode.INVALID_ARGUMENT, "wrong")
