"""A bundle that fails a check is never served, and the process stays up to say why."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
from forest.v1 import model_service_pb2
from forest.v1.model_service_pb2_grpc import ModelServiceStub
from forest.v1.prediction_service_pb2 import PredictRequest, Vector
from forest.v1.prediction_service_pb2_grpc import PredictionServiceStub

from model_bundle import digest

_ALWAYS = ["liveness", "startup"]
_TRAFFIC = [
    *("", "readiness", "forest.v1.PredictionService", "forest.v1.ModelService"),
    "inference.GRPCInferenceService",
]


def _tamper_with_the_graph(folder: Path) -> None:
    data = bytearray((folder / "model.onnx").read_bytes())
    data[len(data) // 2] ^= 1
    (folder / "model.onnx").write_bytes(data)


def _tamper_with_the_manifest(folder: Path) -> None:
    manifest = json.loads((folder / "manifest.json").read_bytes())
    manifest["threshold"] = 2
    (folder / "manifest.json").write_text(json.dumps(manifest))


def _golden_rows_of_another_forest(folder: Path) -> None:
    lines = [json.loads(line) for line in (folder / "golden.jsonl").read_text().splitlines()]
    lines[-1]["probability"] += 1e-5
    golden = "".join(json.dumps(line) + "\n" for line in lines).encode()
    (folder / "golden.jsonl").write_bytes(golden)
    manifest = json.loads((folder / "manifest.json").read_bytes())
    manifest["files"]["golden.jsonl"] = digest.of_bytes(golden)
    (folder / "manifest.json").write_text(json.dumps(manifest))


def _move_to_another_version(folder: Path) -> None:
    folder.rename(folder.with_name("2.0.0"))


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (_tamper_with_the_graph, "model.onnx: its digest is sha256:"),
        (_tamper_with_the_manifest, "manifest.json: threshold: 2.0 is not above 0 and at most 1"),
        (_golden_rows_of_another_forest, "golden.jsonl: golden row "),
        (_move_to_another_version, "manifest.json is of fraud 1.0.0, but the folder is fraud/2.0.0"),
    ],
)
def test_a_refused_bundle_is_not_served_and_everything_says_why(  # noqa: PLR0917 - fixtures
    copied: Path,
    start_server: Callable[..., Any],
    connect: Callable[..., Any],
    health_of: Callable[..., Any],
    damage: Callable[[Path], None],
    reason: str,
) -> None:
    damage(copied)
    process = start_server(copied.parents[1])
    refused = process.wait_for(r"ERROR server.models: refused fraud [\d.]+: (.*)")
    assert refused.startswith(reason)
    process.wait_for("NOT_SERVING on port")
    expected = dict.fromkeys(_ALWAYS, "SERVING")
    expected |= dict.fromkeys([*_TRAFFIC, "models/fraud"], "NOT_SERVING")
    for target in (process.target, process.health_target):
        assert health_of(target) == expected
    with connect(process.target) as channel:
        (model,) = (
            ModelServiceStub(channel).ListModels(model_service_pb2.ListModelsRequest(), timeout=10).models
        )
        assert model.state == model_service_pb2.MODEL_STATE_REFUSED
        assert model.state_reason == refused
        with pytest.raises(grpc.RpcError) as caught:
            PredictionServiceStub(channel).Predict(
                PredictRequest(model="fraud", vector=Vector(values=[0.0] * 30)), timeout=10
            )
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        assert refused[:300] in caught.value.details()
    assert process.stop() == 0


@pytest.mark.parametrize("present", [True, False], ids=["empty", "missing"])
def test_a_server_without_models_is_up_but_not_serving(
    tmp_path: Path,
    start_server: Callable[..., Any],
    connect: Callable[..., Any],
    health_of: Callable[..., Any],
    present: bool,
) -> None:
    folder = tmp_path / "models"
    if present:
        folder.mkdir()
    process = start_server(folder)
    process.wait_for(f"no bundle in {folder}: make one with forest-export")
    process.wait_for("NOT_SERVING on port")
    assert health_of(process.health_target) == dict.fromkeys(_ALWAYS, "SERVING") | dict.fromkeys(
        _TRAFFIC, "NOT_SERVING"
    )
    with connect(process.target) as channel, pytest.raises(grpc.RpcError) as caught:
        PredictionServiceStub(channel).Predict(PredictRequest(model="fraud"), timeout=10)
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND
    assert process.stop() == 0


def test_one_refused_version_keeps_traffic_away_though_another_would_do(
    copied: Path, start_server: Callable[..., Any], connect: Callable[..., Any], health_of: Callable[..., Any]
) -> None:
    (copied.parent / "1.1.0").mkdir()
    process = start_server(copied.parents[1])
    health = health_of(process.health_target)
    assert (health[""], health["models/fraud"]) == ("NOT_SERVING", "NOT_SERVING")
    with connect(process.target) as channel:
        prediction = PredictionServiceStub(channel)
        request = PredictRequest(model="fraud", vector=Vector(values=[0.0] * 30))
        with pytest.raises(grpc.RpcError) as caught:
            prediction.Predict(request, timeout=10)
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        # Who asks for the sound version by its number gets it.
        request.version = "1.0.0"
        assert prediction.Predict(request, timeout=10).version == "1.0.0"
    assert process.stop() == 0


def test_only_the_pinned_bundle_makes_the_server_ready(
    fraud_bundle: Path,
    start_server: Callable[..., Any],
    connect: Callable[..., Any],
    health_of: Callable[..., Any],
) -> None:
    found = digest.of_file(fraud_bundle / "manifest.json")
    models = fraud_bundle.parents[1]
    process = start_server(models, environment={"FOREST_BUNDLE_DIGEST": found})
    assert health_of(process.health_target)["readiness"] == "SERVING"
    assert process.stop() == 0

    pinned = "sha256:" + 64 * "0"
    process = start_server(models, "--bundle-digest", pinned)
    refused = process.wait_for(r"ERROR server.models: refused fraud [\d.]+: (.*)")
    assert refused == f"its digest is {found}, but only {pinned} may be served here"
    health = health_of(process.health_target)
    assert [health[name] for name in (*_ALWAYS, *_TRAFFIC)] == 2 * ["SERVING"] + len(_TRAFFIC) * [
        "NOT_SERVING"
    ]
    with connect(process.target) as channel:
        request = model_service_pb2.GetModelRequest(model="fraud")
        model = ModelServiceStub(channel).GetModel(request, timeout=10).model
        assert (model.state, model.state_reason) == (model_service_pb2.MODEL_STATE_REFUSED, refused)
        with pytest.raises(grpc.RpcError) as caught:
            PredictionServiceStub(channel).Predict(
                PredictRequest(model="fraud", vector=Vector(values=[0.0] * 30)), timeout=10
            )
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    assert process.stop() == 0
