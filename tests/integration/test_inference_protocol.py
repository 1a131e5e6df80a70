"""The Open Inference Protocol over the wire: the real server, called by a client that is not ours."""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from forest.v1.prediction_service_pb2 import Matrix, PredictBatchRequest, PredictRequest, Vector
from forest.v1.prediction_service_pb2_grpc import PredictionServiceStub
from google.rpc import error_details_pb2, status_pb2
from inference import grpc_service_pb2 as pb
from inference.grpc_service_pb2_grpc import GRPCInferenceServiceStub

from model_bundle import bundle, golden

_ROOT = Path(__file__).parents[2]
_FOLDER = Path(__file__).parent / "triton"
_LOCK = _FOLDER / "requirements.txt"
_CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "forest-serving" / "tests"
_NO_INDEX = (
    r"No matching distribution|Failed to establish a new connection|Temporary failure in name resolution"
)
_TIMEOUT = 30


@pytest.fixture(scope="module")
def triton_python() -> Path:
    """Return the Python of tritonclient's environment, which is made by its lock once and kept."""
    digest = hashlib.sha256(_LOCK.read_bytes() + sys.version.encode()).hexdigest()
    folder = _CACHE / f"triton-{digest[:16]}"
    if not folder.exists():
        own = folder.with_name(f"{folder.name}.{os.getpid()}")
        own.parent.mkdir(parents=True, exist_ok=True)
        subprocess.run([sys.executable, "-m", "venv", own], check=True, timeout=120)
        options = ["--quiet", "--disable-pip-version-check", "--require-hashes", "--only-binary", ":all:"]
        installed = subprocess.run(
            [own / "bin" / "python", "-m", "pip", "install", *options, "-r", _LOCK],
            capture_output=True,
            text=True,
            timeout=280,
            check=False,
        )
        if installed.returncode:
            shutil.rmtree(own)
            if re.search(_NO_INDEX, installed.stderr):
                pytest.skip(f"pip reaches no package index: {installed.stderr.splitlines()[-1]}")
            pytest.fail(installed.stderr)
        try:
            own.rename(folder)
        except OSError:
            # Another run was faster.
            shutil.rmtree(own)
    return folder / "bin" / "python"


@pytest.fixture(scope="module")
def four(start_server: Callable[..., Any], four_models: Path) -> Any:
    """Return a server of the four models."""
    return start_server(four_models)


@pytest.fixture(scope="module")
def call(triton_python: Path, four: Any) -> Callable[..., list[Any]]:
    """Return a function that has tritonclient make calls, and returns what came of each."""

    def run(*calls: tuple[str, list[Any], dict[str, Any]]) -> list[Any]:
        ran = subprocess.run(
            # No variable and no folder of ours: only what its lock has installed.
            [triton_python, "-I", _FOLDER / "client.py", four.target],
            input=json.dumps(calls),
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert ran.returncode == 0, ran.stderr
        answers: list[Any] = json.loads(ran.stdout)
        return answers

    return run


@pytest.fixture
def channel(four: Any, connect: Callable[..., Any]) -> Iterator[grpc.Channel]:
    with connect(four.target) as opened:
        yield opened


def _rows(models: Path, name: str) -> tuple[Any, list[dict[str, Any]]]:
    """Return a model's manifest, and its golden rows as records."""
    folder = models / name / "1.0.0"
    manifest, _ = bundle.read_manifest(folder)
    rows = golden.from_bytes((folder / bundle.GOLDEN).read_bytes())
    return manifest, [dict(row.record) for row in rows]


def _fraud(models: Path, count: int) -> list[list[float]]:
    """Return so many of the fraud model's golden rows, each a float32 number as JSON tells it."""
    manifest, records = _rows(models, "fraud")
    rows = [[record[feature.name] for feature in manifest.features] for record in records]
    return np.resize(np.array(rows, "<f4"), (count, 30)).tolist()


def test_our_messages_are_the_protocols(call: Callable[..., list[Any]]) -> None:
    theirs, methods = call(("fields", [], {}), ("methods", [], {}))

    def of(message: Any) -> dict[str, list[Any]]:
        found = {
            f"{message.full_name}.{field.name}": [
                field.number,
                field.is_repeated,
                field.type,
                field.message_type.full_name if field.message_type else "",
                field.containing_oneof.name if field.containing_oneof else "",
            ]
            for field in message.fields
        }
        for nested in message.nested_types:
            found |= of(nested)
        return found

    ours: dict[str, list[Any]] = {}
    for message in pb.DESCRIPTOR.message_types_by_name.values():
        ours |= of(message)
    assert len(ours) > 50
    assert ours == {name: theirs.get(name) for name in ours}
    # Nor do they have a field there that ours lack.
    messages = {name.rpartition(".")[0] for name in ours}
    assert {name for name in theirs if name.rpartition(".")[0] in messages} == set(ours)
    service = pb.DESCRIPTOR.services_by_name["GRPCInferenceService"]
    assert {
        method.name: [method.input_type.full_name, method.output_type.full_name] for method in service.methods
    } == {method.name: methods[method.name] for method in service.methods}


def test_live_ready_and_metadata(call: Callable[..., list[Any]], four_models: Path) -> None:
    ready, unknown, told, churn, demand = call(
        ("ready", ["fraud"], {}),
        ("ready", ["none"], {}),
        ("server_metadata", [], {}),
        ("model_metadata", ["churn"], {}),
        ("model_metadata", ["demand", "1.0.0"], {}),
    )
    assert ready == [True, True, True]
    assert unknown == {
        "status": "StatusCode.NOT_FOUND",
        "message": "no model 'none' here, but: churn, credit, demand, fraud",
    }
    assert told["name"] == "forest-serving"
    assert re.fullmatch(r"\d+\.\d+\.\d+", told["version"])
    assert (churn["name"], churn["versions"], churn["platform"]) == ("churn", ["1.0.0"], "onnxruntime_onnx")
    manifest, _ = _rows(four_models, "churn")
    datatypes = {"number": "FP32", "category": "BYTES", "flag": "BOOL"}
    assert churn["inputs"] == [
        {"name": feature.name, "datatype": datatypes[feature.type], "shape": ["-1"]}
        for feature in manifest.features
    ]
    assert [output["name"] for output in demand["outputs"]] == ["value", "low", "high", "out_of_range"]


def test_a_batch_by_position_scores_as_predict_does(
    call: Callable[..., list[Any]], channel: grpc.Channel, four_models: Path
) -> None:
    rows = _fraud(four_models, 300)
    raw, typed, later = call(
        ("infer", ["fraud", [["matrix", "FP32", rows]]], {"request_id": "a", "client_timeout": 30}),
        ("infer_typed", ["fraud", rows], {}),
        ("infer_from_another_thread", ["fraud", [["matrix", "FP64", rows]]], {}),
    )
    stub = PredictionServiceStub(channel)
    alone = [
        stub.Predict(PredictRequest(model="fraud", vector=Vector(values=row)), timeout=_TIMEOUT)
        for row in rows
    ]
    for answer in (raw, typed, later):
        outputs = answer["outputs"]
        assert outputs["probability"] == [row.classification.probability for row in alone]
        assert outputs["label"] == [row.classification.label for row in alone]
        assert outputs["risk_level"] == [row.classification.risk_level for row in alone]
        assert outputs["out_of_range"] == [
            ", ".join(warning.feature for warning in row.warnings) for row in alone
        ]
        assert answer["digest"] == alone[0].digest
        assert answer["threshold"] == alone[0].classification.threshold
    assert raw["model"] == ["fraud", "1.0.0", "a"]
    assert (raw["raw"], typed["raw"]) == (4, 0)


@pytest.mark.parametrize("name", ["churn", "demand"])
def test_a_batch_by_name_scores_as_the_trained_forest_did(
    call: Callable[..., list[Any]], four_models: Path, name: str
) -> None:
    manifest, records = _rows(four_models, name)
    rows = golden.from_bytes((four_models / name / "1.0.0" / bundle.GOLDEN).read_bytes())
    # By name a flag cannot be missing in one row and be there in another.
    flags = [feature.name for feature in manifest.features if feature.type == "flag"]
    chosen = [
        place for place, record in enumerate(records) if all(record[flag] is not None for flag in flags)
    ]
    datatypes = {"number": "FP64", "category": "BYTES", "flag": "BOOL"}
    nothing = {"number": float("nan"), "category": ""}
    tensors = [
        [
            feature.name,
            datatypes[feature.type],
            [
                nothing[feature.type] if (value := records[place][feature.name]) is None else value
                for place in chosen
            ],
        ]
        for feature in reversed(manifest.features)
    ]
    (answer,) = call(("infer", [name, tensors], {}))
    outcomes = [rows[place].outcome for place in chosen]
    assert len(outcomes) > 50
    if name == "churn":
        assert answer["outputs"]["label"] == [outcome["label"] for outcome in outcomes]
    score = "probability" if name == "churn" else "value"
    assert answer["outputs"][score] == pytest.approx(
        [outcome[score] for outcome in outcomes], rel=1e-5, abs=1e-6
    )


def test_outputs_are_those_requested(call: Callable[..., list[Any]], four_models: Path) -> None:
    rows = [["matrix", "FP32", _fraud(four_models, 3)]]
    everything, one, two, wrong, otherwise = call(
        ("infer", ["fraud", rows], {}),
        ("infer", ["fraud", rows], {"outputs": [["label"]]}),
        ("infer", ["fraud", rows], {"outputs": [["label"], ["probability"]], "model_version": "1.0.0"}),
        ("infer", ["fraud", rows], {"outputs": [["value"]]}),
        # The second argument asks for the three likeliest classes.
        ("infer", ["fraud", rows], {"outputs": [["label", 3]]}),
    )
    told = everything["outputs"]
    assert one["outputs"] == {"label": told["label"]}
    assert two["outputs"] == {"label": told["label"], "probability": told["probability"]}
    assert list(two["outputs"]) == ["label", "probability"]
    assert wrong["status"] == otherwise["status"] == "StatusCode.INVALID_ARGUMENT"
    assert wrong["message"].startswith("'value' is none of the model's outputs")
    assert otherwise["message"] == "label: there is no classification here: request it without"


def test_errors_name_what_is_wrong(call: Callable[..., list[Any]], four_models: Path) -> None:
    rows = _fraud(four_models, 4)
    broken = [list(row) for row in rows]
    broken[2][29] = float("inf")
    short = [row[:29] for row in rows]
    errors = call(
        ("infer", ["none", [["matrix", "FP32", rows]]], {}),
        ("infer", ["fraud", [["matrix", "FP32", rows]]], {"model_version": "9.0.0"}),
        ("infer", ["fraud", [["matrix", "FP32", broken]]], {}),
        ("infer", ["fraud", [["matrix", "FP32", short]]], {}),
        ("infer", ["fraud", [["input-0", "FP32", rows]]], {}),
        ("infer", ["fraud", [["Amount", "BYTES", ["a"]]]], {}),
        ("infer", ["fraud", [["matrix", "FP32", rows]]], {"client_timeout": -1}),
        ("infer", ["churn", [["Contract", "BYTES", ["Daily", "x"]], ["tenure", "INT64", [1]]]], {}),
        ("model_metadata", ["fraud", "9.0.0"], {}),
    )
    assert [error["status"].removeprefix("StatusCode.") for error in errors] == [
        *("NOT_FOUND", "NOT_FOUND", "INVALID_ARGUMENT", "INVALID_ARGUMENT", "INVALID_ARGUMENT"),
        *("INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "INVALID_ARGUMENT", "NOT_FOUND"),
    ]
    messages = [error["message"] for error in errors]
    assert messages[1] == "model 'fraud' has no version '9.0.0' here, but 1.0.0"
    assert messages[2] == "row 2: Amount: infinite, or beyond float32"
    assert messages[3].startswith("matrix: it has 29 columns, but the model has 30 features")
    assert messages[4].startswith(
        "input-0: the model has no such feature; inputs are its features, or 'matrix'"
    )
    assert messages[5].startswith("Amount: expects FP32, FP64 or an integer, not 'BYTES' (and 29 more)")
    assert messages[7].startswith("tenure: it has 1 rows, but Contract has 2")


def test_the_examples_of_the_documentation(call: Callable[..., list[Any]], four: Any) -> None:
    page = (_ROOT / "docs" / "inference-protocol.md").read_text()
    examples = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    (shown,) = re.findall(r"```text\n(.*?)```", page, re.DOTALL)
    assert len(examples) == 3
    assert examples[0].count("localhost:50051") == 1
    ((head, first, second, sizes, error),) = call(("run", [four.target, "\n".join(examples)], {}))
    assert head == "campaign-7 1.0.0"
    for line in (first, second):
        label, probability = line.split()
        assert label in ("stays", "leaves")
        assert 0 < float(probability) < 1
    assert sizes.startswith("(1000,) ")
    assert error == shown.strip()


# The same over our own stubs: what a client that is not ours hides.


def test_details_come_with_an_error(channel: grpc.Channel) -> None:
    stub = GRPCInferenceServiceStub(channel)
    request = pb.ModelInferRequest(model_name="fraud", raw_input_contents=[bytes(120)])
    request.inputs.add(name="matrix", datatype="FP32", shape=[2, 30])
    with pytest.raises(grpc.RpcError) as caught:
        stub.ModelInfer(request, timeout=_TIMEOUT)
    trailers = dict(caught.value.trailing_metadata())
    status = status_pb2.Status.FromString(trailers["grpc-status-details-bin"])
    detail = error_details_pb2.BadRequest()
    assert status.details[0].Unpack(detail)
    assert [(each.field, each.reason) for each in detail.field_violations] == [
        ("inputs.matrix", "WRONG_SHAPE")
    ]
    assert caught.value.details() == (
        "matrix: raw_input_contents[0] has 120 bytes, but 60 elements of FP32 take 240"
    )


def test_large_batches_are_those_of_predict_batch_and_bounded_with_them(
    start_server: Callable[..., Any], connect: Callable[..., Any], four_models: Path
) -> None:
    process = start_server(four_models, "--max-rows-in-flight", "10000")
    x = np.array(_fraud(four_models, 10_000), "<f4")
    request = pb.ModelInferRequest(model_name="fraud", raw_input_contents=[x.tobytes()])
    request.inputs.add(name="matrix", datatype="FP32", shape=x.shape)
    batch = PredictBatchRequest(model="fraud", matrix=Matrix(rows=10_000, columns=30, data=x.tobytes()))
    with connect(process.target) as channel:
        infer = GRPCInferenceServiceStub(channel).ModelInfer
        predict = PredictionServiceStub(channel).PredictBatch
        found = np.frombuffer(infer(request, timeout=_TIMEOUT).raw_output_contents[0], "<f8")
        told = predict(batch, timeout=_TIMEOUT).classifications.probabilities
        assert found.tolist() == list(told)
        codes = set()
        for _ in range(20):
            futures = [infer.future(request, timeout=_TIMEOUT) for _ in range(2)]
            futures += [predict.future(batch, timeout=_TIMEOUT) for _ in range(2)]
            codes |= {future.code() for future in futures}
            if len(codes) == 2:
                break
        assert codes == {grpc.StatusCode.OK, grpc.StatusCode.RESOURCE_EXHAUSTED}
        request.inputs[0].shape[0] = 10_001
        with pytest.raises(grpc.RpcError) as caught:
            infer(request, timeout=_TIMEOUT)
        assert "10000 are the most" in caught.value.details()
    assert process.stop() == 0
    assert "Traceback" not in "".join(process.log)


def test_a_draining_server_is_not_ready_and_answers(
    start_server: Callable[..., Any], connect: Callable[..., Any], four_models: Path
) -> None:
    process = start_server(four_models, "--max-connection-age", "30", "--drain-timeout", "40")
    request = pb.ModelInferRequest(model_name="fraud", raw_input_contents=[bytes(120)])
    request.inputs.add(name="matrix", datatype="FP32", shape=[1, 30])
    with connect(process.target) as channel:
        stub = GRPCInferenceServiceStub(channel)
        assert stub.ServerReady(pb.ServerReadyRequest(), timeout=_TIMEOUT).ready
        process.process.terminate()
        process.wait_for("DRAINING")
        deadline = time.monotonic() + _TIMEOUT
        while stub.ServerReady(pb.ServerReadyRequest(), timeout=_TIMEOUT).ready:
            assert time.monotonic() < deadline
        assert stub.ServerLive(pb.ServerLiveRequest(), timeout=_TIMEOUT).live
        assert not stub.ModelReady(pb.ModelReadyRequest(name="fraud"), timeout=_TIMEOUT).ready
        assert len(stub.ModelInfer(request, timeout=_TIMEOUT).outputs) == 4
    assert process.process.wait(_TIMEOUT) == 0
