"""Four models in one process: each found, described and scored as it was trained, and each fault named."""

import json
import math
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from forest.v1.model_service_pb2 import (
    MODEL_STATE_SERVING,
    TASK_BINARY_CLASSIFICATION,
    TASK_REGRESSION,
    Feature,
    ListModelsRequest,
    Model,
)
from forest.v1.model_service_pb2_grpc import ModelServiceStub
from forest.v1.prediction_service_pb2 import PredictRequest, PredictResponse, Record, Value, Vector
from forest.v1.prediction_service_pb2_grpc import PredictionServiceStub
from forest_client import failure_of

_TIMEOUT = 10
_NAMES = ["churn", "credit", "demand", "fraud"]
_KINDS = {Feature.TYPE_NUMBER: "number", Feature.TYPE_CATEGORY: "text", Feature.TYPE_FLAG: "flag"}


@pytest.fixture(scope="module")
def channel(four_models: Path, start_server: Callable[..., Any]) -> Iterator[grpc.Channel]:
    process = start_server(four_models)
    with grpc.insecure_channel(process.target) as channel:
        yield channel
    process.stop()


@pytest.fixture(scope="module")
def listed(channel: grpc.Channel) -> dict[str, Model]:
    answer = ModelServiceStub(channel).ListModels(ListModelsRequest(), timeout=_TIMEOUT)
    return {model.name: model for model in answer.models}


def golden_rows(models: Path, name: str) -> list[dict[str, Any]]:
    lines = (models / name / "1.0.0" / "golden.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def record_of(values: dict[str, Any], model: Model) -> Record:
    """Build a record by nothing but what ModelService says."""
    record = Record()
    for feature in model.features:
        value = values[feature.name]
        if value is not None:
            setattr(record.features[feature.name], _KINDS[feature.type], value)
    return record


def vector_of(values: dict[str, Any], model: Model) -> Vector:
    codes = []
    for feature in model.features:
        value = values[feature.name]
        if value is None:
            codes.append(math.nan)
        elif feature.type == Feature.TYPE_CATEGORY:
            codes.append(list(feature.categories).index(value))
        else:
            codes.append(value)
    return Vector(values=codes)


def check(answer: PredictResponse, row: dict[str, Any]) -> None:
    if "value" in row:
        outcome = answer.regression
        assert outcome.value == row["value"]
        assert (outcome.interval.low, outcome.interval.high) == (row["low"], row["high"])
        assert outcome.interval.low <= outcome.value <= outcome.interval.high or outcome.value < 0
        assert outcome.interval.coverage == 0.9
    else:
        outcome = answer.classification
        assert (outcome.probability, outcome.label) == (row["probability"], row["label"])


def test_each_is_listed_with_all_that_a_request_needs(listed: dict[str, Model]) -> None:
    assert list(listed) == _NAMES
    for model in listed.values():
        assert model.state == MODEL_STATE_SERVING
        assert model.default_version
        assert model.description
        assert model.metrics
        for feature in model.features:
            assert feature.type != Feature.TYPE_UNSPECIFIED
            assert feature.missing != Feature.MISSING_UNSPECIFIED
            assert feature.description
            assert bool(feature.categories) == (feature.type == Feature.TYPE_CATEGORY)
            assert feature.HasField("minimum") == (feature.type == Feature.TYPE_NUMBER)
    for name in ("churn", "credit", "fraud"):
        assert listed[name].task == TASK_BINARY_CLASSIFICATION
        assert len(listed[name].labels) == 2
        minimums = [level.minimum for level in listed[name].risk_levels]
        assert minimums == sorted(set(minimums))
        assert listed[name].threshold in minimums
        assert not listed[name].interval_method
    demand = listed["demand"]
    assert demand.task == TASK_REGRESSION
    assert not demand.labels
    assert not demand.risk_levels
    assert demand.interval_coverage == 0.9
    assert "conformal" in demand.interval_method
    assert set(demand.metrics) == {"r2", "mae", "rmse", "coverage", "width"}


@pytest.mark.parametrize("name", _NAMES)
def test_each_scores_its_golden_rows_to_the_last_bit_by_name_and_by_position(
    name: str, channel: grpc.Channel, listed: dict[str, Model], four_models: Path
) -> None:
    predict = PredictionServiceStub(channel).Predict
    model = listed[name]
    for row in golden_rows(four_models, name)[::4]:
        for fields in (
            {"record": record_of(row["record"], model)},
            {"vector": vector_of(row["record"], model)},
        ):
            answer = predict(PredictRequest(model=name, **fields), timeout=_TIMEOUT)
            check(answer, row)
            assert (answer.model, answer.digest) == (name, model.digest)


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("churn", ("Contract", Value(text="Weekly"), "UNKNOWN_CATEGORY")),
        ("churn", ("Contract", Value(number=1), "WRONG_TYPE")),
        ("churn", ("tenure", Value(text="12"), "WRONG_TYPE")),
        ("churn", ("Partner", Value(text="Yes"), "WRONG_TYPE")),
        ("churn", ("tenure", None, "MISSING_FEATURE")),
        ("churn", ("tenure", Value(number=math.nan), "MISSING_VALUE")),
        ("churn", ("customerID", Value(text="7590-VHVEG"), "UNKNOWN_FEATURE")),
        ("credit", ("SEX", Value(text="3"), "UNKNOWN_CATEGORY")),
        ("credit", ("AGE", Value(number=math.inf), "NOT_FINITE")),
        ("demand", ("hr", Value(number=24), "OUT_OF_RANGE")),
        ("demand", ("holiday", Value(number=0), "WRONG_TYPE")),
        ("demand", ("casual", Value(number=3), "UNKNOWN_FEATURE")),
    ],
)
def test_each_fault_is_named_by_its_feature(
    name: str,
    fault: tuple[str, Value | None, str],
    channel: grpc.Channel,
    listed: dict[str, Model],
    four_models: Path,
) -> None:
    feature, value, reason = fault
    record = record_of(golden_rows(four_models, name)[0]["record"], listed[name])
    if value is None:
        del record.features[feature]
    else:
        record.features[feature].CopyFrom(value)
    with pytest.raises(grpc.RpcError) as caught:
        PredictionServiceStub(channel).Predict(PredictRequest(model=name, record=record), timeout=_TIMEOUT)
    failure = failure_of(caught.value)
    assert failure.code is grpc.StatusCode.INVALID_ARGUMENT
    assert [(each.feature, each.reason) for each in failure.violations] == [(feature, reason)]
    assert failure.message.startswith(f"row 0: {feature}: ")


def test_a_number_out_of_the_range_of_training_is_scored_with_a_warning(
    channel: grpc.Channel, listed: dict[str, Model], four_models: Path
) -> None:
    record = record_of(golden_rows(four_models, "demand")[0]["record"], listed["demand"])
    record.features["cnt_1"].number = 1e6
    answer = PredictionServiceStub(channel).Predict(
        PredictRequest(model="demand", record=record), timeout=_TIMEOUT
    )
    assert "cnt_1" in [warning.feature for warning in answer.warnings]


def test_a_missing_value_with_a_rule_is_scored_absent_without_a_kind_or_as_nan(
    channel: grpc.Channel, listed: dict[str, Model], four_models: Path
) -> None:
    predict = PredictionServiceStub(channel).Predict
    row = next(row for row in golden_rows(four_models, "churn") if row["record"]["TotalCharges"] is None)
    absent, without, nan = (record_of(row["record"], listed["churn"]) for _ in range(3))
    without.features["TotalCharges"].SetInParent()
    nan.features["TotalCharges"].number = math.nan
    for record in (absent, without, nan):
        check(predict(PredictRequest(model="churn", record=record), timeout=_TIMEOUT), row)


def test_nothing_that_serves_knows_a_models_name() -> None:
    root = Path(__file__).parents[2]
    sources = [*(root / "server").glob("*.py"), *(root / "model_bundle").glob("*.py")]
    assert len(sources) > 15
    for source in sources:
        code = re.sub(r'"""[\s\S]*?"""|#.*', "", source.read_text())
        named = re.findall(r"\b(fraud|credit|churn|demand)\b", code)
        assert not named, f"{source.name} knows of {named}"


def test_forest_predict_scores_a_file_of_each_model(
    channel: grpc.Channel, four_models: Path, tmp_path: Path, start_server: Callable[..., Any]
) -> None:
    process = start_server(four_models)
    for name in ("churn", "demand"):
        rows = golden_rows(four_models, name)[:50]
        header = list(rows[0]["record"])
        lines = [
            ",".join(
                "" if row["record"][column] is None else f'"{row["record"][column]}"' for column in header
            )
            for row in rows
        ]
        (tmp_path / f"{name}.csv").write_text("\n".join([",".join(header), *lines]))
        done = subprocess.run(
            [sys.executable, "-m", "forest_client", name, f"{name}.csv", "--target", process.target],
            capture_output=True,
            text=True,
            cwd=tmp_path,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        head, *scored = done.stdout.splitlines()
        if name == "demand":
            assert head == "row,request_id,value,low,high,coverage,model,version"
            cells = [tuple(map(float, line.split(",")[2:5])) for line in scored]
            assert cells == [(row["value"], row["low"], row["high"]) for row in rows]
            mean = sum(row["value"] for row in rows) / len(rows)
            assert f"50 rows, mean value {mean:g}, 0 refused" in done.stderr
        else:
            assert head == "row,request_id,label,probability,threshold,risk_level,model,version"
            assert [line.split(",")[2] for line in scored] == [row["label"] for row in rows]
    process.stop()
