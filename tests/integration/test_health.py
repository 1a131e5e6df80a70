"""What the real server says of its health, on both ports, and while it leaves and drains."""

import signal
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
from forest.v1.prediction_service_pb2 import PredictRequest, Vector
from forest.v1.prediction_service_pb2_grpc import PredictionServiceStub
from grpc_health.v1 import health_pb2, health_pb2_grpc

_ALWAYS = {"liveness", "startup"}
_SERVICES = {"forest.v1.PredictionService", "forest.v1.ModelService", "inference.GRPCInferenceService"}
_TRAFFIC = {"", "readiness", "models/fraud"} | _SERVICES


@pytest.fixture(params=["API", "health"])
def target(server: Any, request: pytest.FixtureRequest) -> str:
    return str(server.target if request.param == "API" else server.health_target)


def test_list_names_every_health_service(target: str, health_of: Callable[..., Any]) -> None:
    assert health_of(target) == dict.fromkeys(_ALWAYS | _TRAFFIC, "SERVING")


def test_check_and_watch_answer_for_every_name(target: str, connect: Callable[..., Any]) -> None:
    with connect(target) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        for name in _ALWAYS | _TRAFFIC:
            request = health_pb2.HealthCheckRequest(service=name)
            assert stub.Check(request, timeout=10).status == health_pb2.HealthCheckResponse.SERVING
            watch = stub.Watch(request, timeout=10)
            assert next(watch).status == health_pb2.HealthCheckResponse.SERVING
            watch.cancel()


def test_an_unknown_name_is_not_found_by_check_and_unknown_to_watch(
    target: str, connect: Callable[..., Any]
) -> None:
    with connect(target) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        request = health_pb2.HealthCheckRequest(service="models/none")
        with pytest.raises(grpc.RpcError) as caught:
            stub.Check(request, timeout=10)
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND
        watch = stub.Watch(request, timeout=10)
        assert next(watch).status == health_pb2.HealthCheckResponse.SERVICE_UNKNOWN
        watch.cancel()


def test_the_health_port_offers_nothing_else(server: Any, connect: Callable[..., Any]) -> None:
    with connect(server.health_target) as channel:
        for path in (
            "/forest.v1.PredictionService/Predict",
            "/forest.v1.ModelService/ListModels",
            "/inference.GRPCInferenceService/ModelInfer",
            "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
        ):
            with pytest.raises(grpc.RpcError) as caught:
                channel.unary_unary(path)(b"", timeout=10)
            assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


def test_a_leaving_server_says_so_to_probes_alone_and_then_drains(
    start_server: Callable[..., Any],
    fraud_bundle: Path,
    connect: Callable[..., Any],
    health_of: Callable[..., Any],
) -> None:
    process = start_server(fraud_bundle.parents[1], "--leave-timeout", "5")
    with (
        # Somebody who does not go: leaving ends without them, at its timeout.
        socket.create_connection(("localhost", int(process.target.rpartition(":")[2]))),
        connect(process.target) as channel,
        connect(process.health_target) as probe,
    ):
        client, kubelet = (
            health_pb2_grpc.HealthStub(each).Watch(health_pb2.HealthCheckRequest(service=name), timeout=60)
            for each, name in ((channel, ""), (probe, "readiness"))
        )
        for watch in (client, kubelet):
            assert next(watch).status == health_pb2.HealthCheckResponse.SERVING
        process.process.send_signal(signal.SIGTERM)
        assert next(kubelet).status == health_pb2.HealthCheckResponse.NOT_SERVING
        for target in (process.health_target, process.target):
            expected = dict.fromkeys(_ALWAYS | _TRAFFIC, "SERVING") | {"readiness": "NOT_SERVING"}
            assert health_of(target) == expected
        request = PredictRequest(model="fraud", vector=Vector(values=[0.0] * 30))
        assert PredictionServiceStub(channel).Predict(request, timeout=10).HasField("classification")

        assert next(client).status == health_pb2.HealthCheckResponse.NOT_SERVING
        expected = dict.fromkeys(_ALWAYS, "SERVING") | dict.fromkeys(_TRAFFIC, "NOT_SERVING")
        assert health_of(process.health_target) == expected
        assert PredictionServiceStub(channel).Predict(request, timeout=10).HasField("classification")
        client.cancel()
    assert process.process.wait(15) == 0


def test_a_draining_server_is_alive_but_takes_no_traffic(
    start_server: Callable[..., Any],
    fraud_bundle: Path,
    connect: Callable[..., Any],
    health_of: Callable[..., Any],
) -> None:
    process = start_server(
        fraud_bundle.parents[1], "--max-connection-age", "20", "--drain-timeout", "22", "--stop-grace", "1"
    )
    with (
        # Somebody who is connected: the drain waits for them.
        socket.create_connection(("localhost", int(process.target.rpartition(":")[2]))),
        connect(process.target) as channel,
    ):
        watch = health_pb2_grpc.HealthStub(channel).Watch(
            health_pb2.HealthCheckRequest(service=""), timeout=60
        )
        assert next(watch).status == health_pb2.HealthCheckResponse.SERVING
        process.process.send_signal(signal.SIGTERM)
        assert next(watch).status == health_pb2.HealthCheckResponse.NOT_SERVING
        expected = dict.fromkeys(_ALWAYS, "SERVING") | dict.fromkeys(_TRAFFIC, "NOT_SERVING")
        assert health_of(process.health_target) == expected
        assert health_of(process.target) == expected
        watch.cancel()
    # They have gone, and so does the server, long before the drain's end.
    assert process.process.wait(15) == 0
