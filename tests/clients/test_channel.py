import json
import shutil
import signal
import time

import grpc
import pytest
from forest.v1 import model_service_pb2, prediction_service_pb2
from forest.v1.model_service_pb2 import GetModelRequest
from forest.v1.model_service_pb2_grpc import ModelServiceStub
from forest.v1.prediction_service_pb2 import PredictRequest, Vector
from forest.v1.prediction_service_pb2_grpc import PredictionServiceStub
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


@pytest.fixture
def pair(start_server, fraud_bundle, tmp_path):
    """Return two servers, which can be told apart by the version that answers."""
    servers = []
    for version in ("1.0.0", "1.1.0"):
        folder = tmp_path / version / "fraud" / version
        shutil.copytree(fraud_bundle, folder)
        manifest = json.loads((folder / "manifest.json").read_bytes())
        (folder / "manifest.json").write_text(json.dumps(manifest | {"version": version}))
        servers.append(start_server(folder.parents[1], "--host", "127.0.0.1"))
    return servers


@pytest.mark.parametrize("retries", [True, False])
def test_calls_on_a_server_that_is_killed_are_made_again_or_fail(pair, retries):
    target = "ipv4:" + ",".join(server.target.replace("localhost", "127.0.0.1") for server in pair)
    request = PredictRequest(model="fraud", vector=Vector(values=[0.0] * 30))
    with open_channel(target, retries=retries) as channel:
        predict = PredictionServiceStub(channel).Predict
        versions = set()
        while len(versions) < 2:
            versions.add(predict(request, timeout=10).version)
        # It stands still, so that its share of the calls is in flight when it is killed.
        pair[0].process.send_signal(signal.SIGSTOP)
        calls = [predict.future(request, timeout=20) for _ in range(10)]
        time.sleep(0.2)
        pair[0].process.send_signal(signal.SIGKILL)
        codes = {call.code() for call in calls}
    assert codes == {grpc.StatusCode.OK} | (set() if retries else {grpc.StatusCode.UNAVAILABLE})
