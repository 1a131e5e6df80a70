"""Asks a server on loopback and prints what it found, as JSON. It runs in the container's network."""

import json
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import grpc
from forest.v1 import model_service_pb2
from forest.v1.model_service_pb2_grpc import ModelServiceStub
from forest.v1.prediction_service_pb2 import PredictRequest, Vector
from forest.v1.prediction_service_pb2_grpc import PredictionServiceStub
from google.rpc import error_details_pb2, status_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

API, HEALTH = "127.0.0.1:50051", "127.0.0.1:50052"


def _health(channel: grpc.Channel) -> dict[str, str]:
    listed = health_pb2_grpc.HealthStub(channel).List(health_pb2.HealthListRequest(), timeout=10)
    status = health_pb2.HealthCheckResponse.ServingStatus
    return {name: status.Name(response.status) for name, response in listed.statuses.items()}


def _violation(channel: grpc.Channel) -> str:
    """Return the field that the server's error details name for a record without features."""
    try:
        PredictionServiceStub(channel).Predict(PredictRequest(model="fraud", record={}), timeout=10)
    except grpc.RpcError as error:
        status = status_pb2.Status.FromString(dict(error.trailing_metadata())["grpc-status-details-bin"])
        details = error_details_pb2.BadRequest()
        if any(each.Unpack(details) for each in status.details):
            return f"{error.code().name} {details.field_violations[0].field}"
        raise
    raise AssertionError("a record without features was scored")


def everything(bundle: str) -> dict[str, Any]:
    """Use all that the server offers, and score each golden row."""
    rows = [json.loads(line) for line in Path(bundle, "golden.jsonl").read_text().splitlines()]
    with grpc.insecure_channel(HEALTH) as channel:
        health = _health(channel)
    with grpc.insecure_channel(API) as channel:
        predict = PredictionServiceStub(channel).Predict
        answers = []
        seconds = []
        for row in rows:
            values = [float("nan") if value is None else value for value in row["record"].values()]
            begun = time.perf_counter()
            answer = predict(PredictRequest(model="fraud", vector=Vector(values=values)), timeout=10)
            seconds.append(time.perf_counter() - begun)
            answers.append(
                [
                    answer.classification.label,
                    answer.classification.probability,
                    row["label"],
                    row["probability"],
                ]
            )
        (model,) = (
            ModelServiceStub(channel).ListModels(model_service_pb2.ListModelsRequest(), timeout=10).models
        )
        return {
            "health": health,
            "answers": answers,
            "median_seconds": sorted(seconds)[len(seconds) // 2],
            "answered_by": [answer.version, answer.digest],
            "model": [model.name, model.version, model.digest, model.state_reason],
            "violation": _violation(channel),
            "services": sorted(ProtoReflectionDescriptorDatabase(channel).get_services()),
        }


def health() -> dict[str, str]:
    """Ask for health alone."""
    with grpc.insecure_channel(HEALTH) as channel:
        return _health(channel)


def state() -> dict[str, Any]:
    """Ask for health, and for why a model is refused."""
    with grpc.insecure_channel(HEALTH) as channel:
        health = _health(channel)
    with grpc.insecure_channel(API) as channel:
        (model,) = (
            ModelServiceStub(channel).ListModels(model_service_pb2.ListModelsRequest(), timeout=10).models
        )
    return {"health": health, "reason": model.state_reason}


def until_drained() -> dict[str, int]:
    """Call until the server has gone; count the calls answered and lost while health said NOT_SERVING."""
    answered = lost = 0
    draining = False
    request = PredictRequest(model="fraud", vector=Vector(values=[0.0] * 30))
    with grpc.insecure_channel(API) as channel, grpc.insecure_channel(HEALTH) as probe:
        predict = PredictionServiceStub(channel).Predict
        predict(request, timeout=10)
        print("calling", flush=True)
        while True:
            try:
                draining = draining or _health(probe)["readiness"] == "NOT_SERVING"
                predict(request, timeout=10)
                answered += draining
            except grpc.RpcError as error:
                if not draining:
                    raise
                # A client that checks health has left by now; this one is asked to at the drain's end.
                lost += error.code() is not grpc.StatusCode.UNAVAILABLE
                return {"answered": answered, "lost": lost}


def follow() -> dict[str, Any]:
    """Call without a pause until standard input ends; say which version answers first, and count all."""
    answers: Counter[str] = Counter()
    failures: list[str] = []
    ended = threading.Event()
    first = threading.Lock()
    request = PredictRequest(model="fraud", vector=Vector(values=[0.0] * 30))

    def call(predict: Any) -> None:
        while not ended.is_set():
            try:
                version = predict(request, timeout=20).version
            except grpc.RpcError as error:
                failures.append(f"{error.code()}: {error.details()}")
                continue
            with first:
                if version not in answers:
                    print(version, flush=True)
                answers[version] += 1

    # No retries, which would hide a call that was dropped.
    with grpc.insecure_channel(API, [("grpc.enable_retries", 0)]) as channel:
        predict = PredictionServiceStub(channel).Predict
        threads = [threading.Thread(target=call, args=(predict,)) for _ in range(2)]
        for thread in threads:
            thread.start()
        sys.stdin.read()
        ended.set()
        for thread in threads:
            thread.join()
    return {"answers": answers, "failures": failures}


if __name__ == "__main__":
    task, *arguments = sys.argv[1:]
    print(
        json.dumps(
            {
                "everything": everything,
                "follow": follow,
                "health": health,
                "state": state,
                "until_drained": until_drained,
            }[task](*arguments)
        )
    )
