import json

import grpc
import pytest
from forest.v1 import model_service_pb2, prediction_service_pb2
from forest.v1.model_service_pb2 import GetModelRequest
from forest.v1.model_service_pb2_grpc import ModelServiceStub
from forest_client.channel import LONGEST_CALL, SERVICE_CONFIG, open_channel


def test_the_service_config_covers_every_service():
    (method_config,) = json.loads(SERVICE_CONFIG)["methodConfig"]
    services = [
        service.full_name
        for module in (prediction_service_pb2, model_service_pb2)
        for service in module.DESCRIPTOR.services_by_name.values()
    ]
    assert sorted(name["service"] for name in method_config["name"]) == sorted(services)
    assert method_config["timeout"] == f"{LONGEST_CALL:g}s"


def test_a_call_without_a_deadline_reaches_the_server(server):
    # grpc refuses every call of a channel whose service config it cannot read.
    with open_channel(server.target) as channel:
        assert ModelServiceStub(channel).GetModel(GetModelRequest(model="fraud")).model.name == "fraud"


def test_a_server_whose_health_is_not_serving_gets_no_call(start_server, fraud_bundle, tmp_path):
    models = tmp_path / "models"
    (models / "fraud" / "1.0.0").mkdir(parents=True)
    for file in fraud_bundle.iterdir():
        (models / "fraud" / "1.0.0" / file.name).write_bytes(file.read_bytes() + b" ")
    server = start_server(models)
    request = GetModelRequest(model="fraud")
    with grpc.insecure_channel(server.target) as channel:
        assert ModelServiceStub(channel).GetModel(request).model.state_reason
    with open_channel(server.target) as channel, pytest.raises(grpc.RpcError) as caught:
        ModelServiceStub(channel).GetModel(request)
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


def test_a_proxy_of_the_environment_is_not_used(server, monkeypatch):
    monkeypatch.setenv("http_proxy", "http://localhost:1")
    with open_channel(server.target) as channel:
        ModelServiceStub(channel).GetModel(GetModelRequest(model="fraud"))
