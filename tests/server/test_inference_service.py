"""The Open Inference Protocol, from serialised requests to serialised answers, without a transport."""

import math
import struct
import tomllib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from forest.v1.prediction_service_pb2 import (
    Matrix,
    PredictBatchRequest,
    PredictBatchResponse,
    Records,
)
from google.rpc.error_details_pb2 import BadRequest, RetryInfo
from google.rpc.status_pb2 import Status
from hypothesis import given, settings
from hypothesis import strategies as st
from inference import grpc_service_pb2 as pb

import server
from model_bundle import golden
from model_bundle.encoding import Encoder
from model_bundle.manifest import Feature
from server import scoring, tensors
from server.admission import Admission
from server.call import Call, Work
from server.health import LIVENESS, Health
from server.inference_service import InferenceService
from server.models import Models
from server.prediction_service import PredictionService
from server.status import Code, StatusError
from tests.server.conftest import FEATURES

_CALL = Call(math.inf, (), lambda: "nobody")
_MOST = 700
_RAW = {
    "FP32": "<f4",
    "FP64": "<f8",
    "INT8": "<i1",
    "INT16": "<i2",
    "INT32": "<i4",
    "INT64": "<i8",
    "UINT8": "<u1",
    "UINT16": "<u2",
    "UINT32": "<u4",
    "UINT64": "<u8",
    "BOOL": "?",
}
_FIELDS = {
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "INT8": "int_contents",
    "INT16": "int_contents",
    "INT32": "int_contents",
    "INT64": "int64_contents",
    "UINT8": "uint_contents",
    "UINT16": "uint_contents",
    "UINT32": "uint_contents",
    "UINT64": "uint64_contents",
    "BOOL": "bool_contents",
    "BYTES": "bytes_contents",
}
_DATATYPES = {"number": "FP32", "category": "BYTES", "flag": "BOOL"}
# Two rows of the model `mixed`.
_COLUMNS: dict[str, Sequence[Any]] = {
    "amount": [50.0, 1.0],
    "age": [40.0, 18.0],
    "country": ["fr", "ελ"],
    "member": [True, False],
    "balance": [8.0, -3.5],
}


class Served:
    """The service on some models, and what it stands on."""

    def __init__(self, folder: Path, admission: Admission | None = None, *, followed: bool = False):
        self.models = Models(folder, followed=followed)
        self.models.load()
        self.admission = admission or Admission(_MOST, 10 * _MOST)
        self.health = Health(["", LIVENESS, InferenceService.name])
        for name, good in self.models.names().items():
            self.health.set(good, f"models/{name}")
        self.service = InferenceService(self.models, self.health, self.admission)
        self.prediction = PredictionService(self.models, self.admission)

    def infer(self, request: pb.ModelInferRequest, call: Call = _CALL) -> pb.ModelInferResponse:
        return pb.ModelInferResponse.FromString(
            _finish(self.service.model_infer(request.SerializeToString(), call))
        )

    def error(self, request: pb.ModelInferRequest, call: Call = _CALL) -> StatusError:
        with pytest.raises(StatusError) as caught:
            self.infer(request, call)
        assert self.admission.rows == 0
        return caught.value

    def batch(self, model: str = "mixed", **rows: Any) -> PredictBatchResponse:
        request = PredictBatchRequest(model=model, **rows).SerializeToString()
        return PredictBatchResponse.FromString(_finish(self.prediction.predict_batch(request, _CALL)))

    def ask(self, method: str, request: Any, response: Any) -> Any:
        handle = self.service.methods()[method].handle
        return response.FromString(handle(request.SerializeToString(), _CALL))


def _finish(work: Any) -> bytes:
    while True:
        try:
            next(work)
        except StopIteration as stopped:
            result: bytes = stopped.value
            return result


@pytest.fixture(scope="module")
def mixed(mixed_bundle: Path) -> Served:
    return Served(mixed_bundle.parents[1])


@pytest.fixture(scope="module")
def four(four_models: Path) -> Served:
    return Served(four_models)


def _texts(texts: Iterable[bytes]) -> bytes:
    return b"".join(struct.pack("<I", len(text)) + text for text in texts)


def _encoded(elements: Iterable[Any]) -> list[bytes]:
    return [text.encode() if isinstance(text, str) else text for text in elements]


def _add(
    request: pb.ModelInferRequest,
    name: str,
    datatype: str,
    elements: Sequence[Any],
    shape: Sequence[int],
    *,
    raw: bool,
) -> None:
    tensor = request.inputs.add(name=name, datatype=datatype, shape=shape)
    if not raw:
        elements = _encoded(elements) if datatype == "BYTES" else list(elements)
        getattr(tensor.contents, _FIELDS[datatype]).extend(elements)
    elif datatype == "BYTES":
        request.raw_input_contents.append(_texts(_encoded(elements)))
    else:
        request.raw_input_contents.append(np.array(elements, _RAW[datatype]).tobytes())


def _by_position(
    rows: Any, model: str = "mixed", raw: bool = True, datatype: str = "FP32", **fields: Any
) -> pb.ModelInferRequest:
    request = pb.ModelInferRequest(model_name=model, **fields)
    matrix = np.asarray(rows)
    _add(request, "matrix", datatype, matrix.ravel().tolist(), matrix.shape, raw=raw)
    return request


def _by_name(
    columns: dict[str, Sequence[Any]],
    model: str = "mixed",
    raw: bool = True,
    *,
    features: Iterable[Feature] = FEATURES,
    datatypes: dict[str, str] | None = None,
    flat: bool = True,
    **fields: Any,
) -> pb.ModelInferRequest:
    request = pb.ModelInferRequest(model_name=model, **fields)
    kinds = {feature.name: _DATATYPES[feature.type] for feature in features} | (datatypes or {})
    for name, elements in columns.items():
        shape = [len(elements)] if flat else [len(elements), 1]
        _add(request, name, kinds[name], elements, shape, raw=raw)
    return request


def _elements(response: pb.ModelInferResponse) -> dict[str, list[Any]]:
    """Return each output's elements, from raw or typed contents."""
    found: dict[str, list[Any]] = {}
    for place, output in enumerate(response.outputs):
        (rows,) = output.shape
        if not response.raw_output_contents:
            elements = list(getattr(output.contents, _FIELDS[output.datatype]))
        elif output.datatype == "FP64":
            elements = np.frombuffer(response.raw_output_contents[place], "<f8").tolist()
        else:
            data, elements = response.raw_output_contents[place], []
            while data:
                (length,) = struct.unpack_from("<I", data)
                elements.append(data[4 : 4 + length])
                data = data[4 + length :]
        assert len(elements) == rows
        found[output.name] = elements
    return found


def _faults(error: StatusError) -> list[tuple[str, str]]:
    assert error.code is Code.INVALID_ARGUMENT
    status = Status.FromString(error.to_bytes())
    request = BadRequest()
    assert len(status.details) == 1
    assert status.details[0].Unpack(request)
    assert all(violation.description for violation in request.field_violations)
    return [(violation.field, violation.reason) for violation in request.field_violations]


def _bits(numbers: Iterable[float]) -> list[bytes]:
    return [struct.pack("<d", number) for number in numbers]


def _check(response: pb.ModelInferResponse, batch: PredictBatchResponse) -> None:
    """Hold an answer against PredictBatch's: numbers by their bits."""
    found = _elements(response)
    if batch.HasField("regressions"):
        told = batch.regressions
        assert list(found) == ["value", "low", "high", "out_of_range"]
        assert _bits(found["value"]) == _bits(told.values)
        assert _bits(found["low"]) == _bits(told.lows)
        assert _bits(found["high"]) == _bits(told.highs)
        assert response.parameters["coverage"].double_param == told.coverage
    else:
        decided = batch.classifications
        assert list(found) == ["probability", "label", "risk_level", "out_of_range"]
        assert _bits(found["probability"]) == _bits(decided.probabilities)
        labels = [decided.labels[place].encode() for place in decided.label_indices]
        assert found["label"] == labels
        levels = [decided.risk_levels[place].encode() for place in decided.risk_level_indices]
        assert found["risk_level"] == levels
        assert response.parameters["threshold"].double_param == decided.threshold
    odd: list[list[str]] = [[] for _ in found["out_of_range"]]
    for warning in batch.warnings:
        for row in warning.rows:
            odd[row].append(warning.feature)
    assert found["out_of_range"] == [", ".join(names).encode() for names in odd]
    assert (response.model_name, response.model_version) == (batch.model, batch.version)
    assert response.parameters["digest"].string_param == batch.digest


# The same input gives the same bits.


@pytest.mark.parametrize("name", ["fraud", "credit", "churn", "demand"])
def test_tensors_get_the_same_bits_as_predict_batch_by_name_and_by_position(four: Served, name: str) -> None:
    model = four.models.find(name, "")
    assert model.manifest
    features = model.manifest.features
    encoder = Encoder(features)
    rows = golden.from_bytes((model.folder / "golden.jsonl").read_bytes())
    vectors = []
    for row in rows:
        encoder.encode_record(row.record)
        vectors.append(encoder.row.copy())
    # By name a flag cannot be missing in one row and be there in another.
    named = [
        place
        for place, row in enumerate(rows)
        if all(row.record[feature.name] is not None for feature in features if feature.type == "flag")
    ]
    nothing = {"number": math.nan, "category": ""}
    order = np.random.default_rng(0).permutation(np.arange(_MOST) % len(rows))
    for size in (1, 2, 63, scoring._STEP - 1, scoring._STEP, scoring._STEP + 1, _MOST):
        chosen = [vectors[place] for place in order[:size]]
        matrix = np.array(chosen, "<f4")
        batch = four.batch(name, matrix=Matrix(rows=size, columns=len(features), data=matrix.tobytes()))
        for raw in (True, False):
            _check(four.infer(_by_position(chosen, name, raw)), batch)
        records = [rows[named[place % len(named)]].record for place in order[:size]]
        columns = {
            feature.name: [
                nothing[feature.type] if (value := record[feature.name]) is None else value
                for record in records
            ]
            for feature in features
        }
        batch = four.batch(name, records=_records(records))
        for raw in (True, False):
            datatypes = {feature.name: "FP64" for feature in features if feature.type == "number"}
            request = _by_name(columns, name, raw, features=features, datatypes=datatypes, flat=raw)
            _check(four.infer(request), batch)


def _records(records: Iterable[Any]) -> Records:
    found = Records()
    for record in records:
        features = found.records.add().features
        for name, value in record.items():
            if isinstance(value, bool):
                features[name].flag = value
            elif isinstance(value, str):
                features[name].text = value
            elif value is not None:
                features[name].number = value
    return found


@pytest.mark.parametrize("raw", [True, False])
@pytest.mark.parametrize("datatype", [name for name in _RAW if name != "BOOL"])
def test_a_number_may_come_as_any_datatype(mixed: Served, datatype: str, raw: bool) -> None:
    expected = mixed.batch(matrix=Matrix(rows=2, columns=5, data=struct.pack("<10f", *[50, 40, 1, 1, 8] * 2)))
    _check(mixed.infer(_by_position([[50, 40, 1, 1, 8]] * 2, raw=raw, datatype=datatype)), expected)
    columns = {"amount": [50], "age": [40], "country": ["fr"], "member": [True], "balance": [8]}
    datatypes = dict.fromkeys(("amount", "age", "balance"), datatype)
    columns = {name: elements * 2 for name, elements in columns.items()}
    _check(mixed.infer(_by_name(columns, raw=raw, datatypes=datatypes)), expected)


@pytest.mark.parametrize("raw", [True, False])
def test_numbers_are_rounded_once_to_float32(mixed: Served, raw: bool) -> None:
    numbers = [
        0.1,
        1 / 3,
        16_777_217.0,
        1.0000000596046448,
        1.0000001788139343,
        -1e-46,
        3.4028235677973362e38,
    ]
    columns = {name: list(elements[:1]) * len(numbers) for name, elements in _COLUMNS.items()}
    columns["balance"] = numbers
    records = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
    found = mixed.infer(_by_name(columns, raw=raw, datatypes={"balance": "FP64"}))
    _check(found, mixed.batch(records=_records(records)))


def test_a_large_integer_is_rounded_to_the_nearest(mixed: Served) -> None:
    # By way of float64 it would be rounded twice, and down.
    number = 2**60 + 2**36 + 1
    columns = {name: elements[:1] for name, elements in _COLUMNS.items()}
    found = mixed.infer(_by_name(columns | {"balance": [number]}, datatypes={"balance": "INT64"}))
    nearest = mixed.infer(_by_name(columns | {"balance": [2.0**60 + 2.0**37]}))
    assert _elements(found) == _elements(nearest)


def test_answers_are_known_by_hand(mixed: Served, mixed_score: Callable[..., float]) -> None:
    found = _elements(mixed.infer(_by_name(_COLUMNS)))
    scores = [mixed_score((50, 40, 1, 1, 8)), mixed_score((1, 18, 2, 0, -3.5))]
    assert found["probability"] == scores
    assert found["label"] == [b"yes" if score >= 0.3 else b"no" for score in scores]
    assert found["risk_level"] == [b"high" if score >= 0.5 else b"low" for score in scores]
    assert found["out_of_range"] == [b"", b""]


def test_features_come_in_any_order(mixed: Served) -> None:
    backwards = dict(reversed(_COLUMNS.items()))
    assert mixed.infer(_by_name(backwards)) == mixed.infer(_by_name(_COLUMNS))


def test_what_is_out_of_range_is_told_row_by_row(write_mixed: Callable[..., Path], tmp_path: Path) -> None:
    features = (*FEATURES[:4], replace(FEATURES[4], minimum=0.0, maximum=9.0))
    served = Served(write_mixed(tmp_path, features=features).parents[1])
    columns = {name: [*elements, elements[0]] for name, elements in _COLUMNS.items()}
    columns |= {"amount": [50.0, 100.5, -1.0], "balance": [0.0, 10.0, 1.0]}
    found = _elements(served.infer(_by_name(columns)))
    assert found["out_of_range"] == [b"", b"amount, balance", b"amount"]


# Missing values.


@pytest.mark.parametrize("raw", [True, False])
def test_a_missing_value_is_nan_or_an_empty_text_or_no_tensor(mixed: Served, raw: bool) -> None:
    rows = [[math.nan, 40, math.nan, 1, 8], [1, 18, 2, 0, -3.5]]
    columns = _COLUMNS | {"amount": [math.nan, 1.0], "country": ["", "ελ"]}
    assert mixed.infer(_by_name(columns, raw=raw)) == mixed.infer(_by_position(rows, raw=raw))
    without = {name: _COLUMNS[name] for name in ("age", "member", "balance")}
    rows = [[math.nan, 40, math.nan, 1, 8], [math.nan, 18, math.nan, 0, -3.5]]
    assert mixed.infer(_by_name(without, raw=raw)) == mixed.infer(_by_position(rows, raw=raw))


@pytest.mark.filterwarnings("error")
def test_a_nan_of_any_kind_is_a_missing_value(mixed: Served) -> None:
    request = _by_name(_COLUMNS, datatypes={"amount": "FP64"})
    request.raw_input_contents[0] = struct.pack("<2Q", 0x7FF0000000000001, 0xFFF8000000000001)
    assert mixed.infer(request) == mixed.infer(_by_name(_COLUMNS | {"amount": [math.nan, math.nan]}))


def test_an_empty_text_may_be_a_category(write_mixed: Callable[..., Path], tmp_path: Path) -> None:
    country = replace(FEATURES[2], categories=("", "fr", "ελ"))
    served = Served(write_mixed(tmp_path, features=(*FEATURES[:2], country, *FEATURES[3:])).parents[1])
    columns = _COLUMNS | {"country": ["", "ελ"]}
    rows = [[50, 40, 0, 1, 8], [1, 18, 2, 0, -3.5]]
    assert served.infer(_by_name(columns)) == served.infer(_by_position(rows))


def test_a_missing_value_without_a_rule_is_named(mixed: Served) -> None:
    error = mixed.error(_by_name(_COLUMNS | {"age": [40.0, math.nan]}))
    assert _faults(error) == [("rows[1].age", "MISSING_VALUE")]
    error = mixed.error(
        _by_name({"amount": [1.0], "age": [40.0], "tiers": [1.0]}, datatypes={"tiers": "FP32"})
    )
    assert _faults(error) == [
        ("inputs.tiers", "UNKNOWN_FEATURE"),
        ("inputs.member", "MISSING_FEATURE"),
        ("inputs.balance", "MISSING_FEATURE"),
    ]
    assert error.message == (
        "tiers: the model has no such feature; inputs are its features, or 'matrix' alone (and 2 more)"
    )


# Faults of rows.


@pytest.mark.parametrize("raw", [True, False])
def test_every_faulty_row_is_named_in_order(mixed: Served, raw: bool) -> None:
    columns = {name: [elements[0]] * 600 for name, elements in _COLUMNS.items()}
    columns["amount"][2] = math.inf
    columns["age"][599] = 17.0
    columns["country"][2] = "uk"
    columns["country"][300] = "FR"
    columns["balance"][2] = 1e39
    error = mixed.error(_by_name(columns, raw=raw, datatypes={"balance": "FP64"}))
    assert _faults(error) == [
        ("rows[2].amount", "NOT_FINITE"),
        ("rows[2].country", "UNKNOWN_CATEGORY"),
        ("rows[2].balance", "NOT_FINITE"),
        ("rows[300].country", "UNKNOWN_CATEGORY"),
        ("rows[599].age", "OUT_OF_RANGE"),
    ]
    assert error.message == "row 2: amount: infinite, or beyond float32 (and 4 more)"
    error = mixed.error(_by_name(_COLUMNS | {"country": ["fr", "uk"]}, raw=raw))
    assert error.message == "row 1: country: 'uk' is none of 'de', 'fr', 'ελ'"


def test_faults_are_counted_however_many_there_are(mixed: Served) -> None:
    columns = {name: [elements[0]] * _MOST for name, elements in _COLUMNS.items()}
    columns |= {"country": ["x" * 10] * _MOST, "balance": [math.nan] * _MOST}
    error = mixed.error(_by_name(columns))
    assert (
        error.message
        == f"row 0: country: 'xxxxxxxxxx' is none of 'de', 'fr', 'ελ' (and {2 * _MOST - 1} more)"
    )
    assert len(error.to_bytes()) < 4000


@pytest.mark.parametrize("text", [b"\xff\xfe", b"fr\0", b"fr ", "\u03b5".encode()[:1], b"x" * 100_000])
def test_a_text_that_is_no_category_is_shown_as_it_came(mixed: Served, text: bytes) -> None:
    for raw in (True, False):
        error = mixed.error(_by_name(_COLUMNS | {"country": ["fr", text]}, raw=raw))
        assert _faults(error) == [("rows[1].country", "UNKNOWN_CATEGORY")]
        assert "is none of" in error.message
        assert len(error.message) < 200


def test_a_flag_is_0_or_1(mixed: Served) -> None:
    request = _by_name(_COLUMNS)
    request.raw_input_contents[3] = b"\1\2"
    error = mixed.error(request)
    assert _faults(error) == [("rows[1].member", "UNKNOWN_CATEGORY")]
    assert error.message == "row 1: member: 2 is no code, which are 0 to 1"


# Faults of tensors.


def _changed(change: Callable[[Any], None], raw: bool = True) -> pb.ModelInferRequest:
    request = _by_name(_COLUMNS, raw=raw)
    change(request)
    return request


def _set(path: str, value: Any) -> Callable[[Any], None]:
    """Return what sets a field of the third input, `country`, or of the first, `amount`."""

    def change(request: Any) -> None:
        index, _, field = path.partition(".")
        tensor = request.inputs[int(index)]
        if field == "shape":
            del tensor.shape[:]
            tensor.shape.extend(value)
        else:
            setattr(tensor, field, value)

    return change


@pytest.mark.parametrize(
    ("change", "field", "reason"),
    [
        (_set("0.shape", []), "inputs.amount.shape", "WRONG_SHAPE"),
        (_set("0.shape", [-2]), "inputs.amount.shape", "WRONG_SHAPE"),
        (_set("0.shape", [2, 2]), "inputs.amount.shape", "WRONG_SHAPE"),
        (_set("0.shape", [1, 2]), "inputs.amount.shape", "WRONG_SHAPE"),
        (_set("0.shape", [2, 0]), "inputs.amount.shape", "WRONG_SHAPE"),
        (_set("0.shape", [2, 1, 1]), "inputs.amount.shape", "WRONG_SHAPE"),
        (_set("0.shape", [2**63 - 1] * 1000), "inputs.amount.shape", "WRONG_SHAPE"),
        (_set("1.shape", [3]), "inputs.age.shape", "WRONG_SHAPE"),
        (_set("1.shape", [0]), "inputs.age.shape", "MISSING_INPUT"),
        (_set("1.shape", [2**63 - 1]), "inputs.age.shape", "TOO_MANY_ROWS"),
        (_set("1.shape", [_MOST + 1]), "inputs.age.shape", "TOO_MANY_ROWS"),
        (_set("0.datatype", ""), "inputs.amount.datatype", "WRONG_TYPE"),
        (_set("0.datatype", "FP16"), "inputs.amount.datatype", "WRONG_TYPE"),
        (_set("0.datatype", "fp32"), "inputs.amount.datatype", "WRONG_TYPE"),
        (_set("0.datatype", "BOOL"), "inputs.amount.datatype", "WRONG_TYPE"),
        (_set("0.datatype", "BYTES"), "inputs.amount.datatype", "WRONG_TYPE"),
        (_set("2.datatype", "INT64"), "inputs.country.datatype", "WRONG_TYPE"),
        (_set("3.datatype", "FP32"), "inputs.member.datatype", "WRONG_TYPE"),
        (_set("0.name", "matrix"), "inputs.matrix", "DUPLICATE"),
        (_set("0.name", "age"), "inputs.age", "DUPLICATE"),
        (_set("0.name", ""), "inputs.", "UNKNOWN_FEATURE"),
        (_set("0.name", "x" * 100_000), f"inputs.{'x' * 64}", "UNKNOWN_FEATURE"),
        (
            lambda request: (
                request.inputs[0]
                .parameters["shared_memory_region"]
                .CopyFrom(pb.InferParameter(string_param="a"))
            ),
            "inputs.amount.parameters",
            "UNSUPPORTED",
        ),
    ],
    ids=lambda value: str(value)[:60],
)
@pytest.mark.parametrize("raw", [True, False])
def test_a_tensor_that_is_wrong_is_named(
    mixed: Served, change: Callable[[Any], None], field: str, reason: str, raw: bool
) -> None:
    error = mixed.error(_changed(change, raw))
    assert (field, reason) in _faults(error)
    assert len(error.to_bytes()) < 4000


@pytest.mark.parametrize(
    ("shape", "field", "reason"),
    [
        ([10], "inputs.matrix.shape", "WRONG_SHAPE"),
        ([2, 5, 1], "inputs.matrix.shape", "WRONG_SHAPE"),
        ([-2, -5], "inputs.matrix.shape", "WRONG_SHAPE"),
        ([2, -5], "inputs.matrix.shape", "WRONG_SHAPE"),
        ([0, 5], "inputs.matrix.shape", "MISSING_INPUT"),
        ([5, 2], "inputs.matrix.shape", "WRONG_LENGTH"),
        ([1, 10], "inputs.matrix.shape", "WRONG_LENGTH"),
        ([2, 2**62 + 5], "inputs.matrix.shape", "WRONG_LENGTH"),
        ([3, 5], "inputs.matrix", "WRONG_SHAPE"),
        ([1, 5], "inputs.matrix", "WRONG_SHAPE"),
        ([2**62 + 2, 5], "inputs.matrix.shape", "TOO_MANY_ROWS"),
        ([_MOST + 1, 5], "inputs.matrix.shape", "TOO_MANY_ROWS"),
    ],
    ids=str,
)
def test_a_matrix_whose_shape_lies_is_named(mixed: Served, shape: list[int], field: str, reason: str) -> None:
    for raw in (True, False):
        request = _by_position([[50, 40, 1, 1, 8]] * 2, raw=raw)
        del request.inputs[0].shape[:]
        request.inputs[0].shape.extend(shape)
        error = mixed.error(request)
        ((found, why),) = _faults(error)
        assert (found.removesuffix(".contents"), why) == (field, reason)
    if reason == "TOO_MANY_ROWS":
        assert f"{_MOST} are the most" in error.message


@pytest.mark.parametrize("datatype", ["BOOL", "BYTES"])
def test_a_matrix_is_of_numbers(mixed: Served, datatype: str) -> None:
    request = _by_position([[50, 40, 1, 1, 8]])
    request.inputs[0].datatype = datatype
    assert _faults(mixed.error(request)) == [("inputs.matrix.datatype", "WRONG_TYPE")]


@pytest.mark.parametrize("place", range(5))
@pytest.mark.parametrize(
    "change", [lambda raw: raw[:-1], lambda raw: raw + b"\0", lambda raw: b"", bytes.__mul__]
)
def test_raw_contents_of_another_length_are_named(
    mixed: Served, place: int, change: Callable[..., bytes]
) -> None:
    request = _by_name(_COLUMNS)
    raw = request.raw_input_contents[place]
    request.raw_input_contents[place] = change(raw, 2) if change is bytes.__mul__ else change(raw)
    ((field, reason),) = _faults(mixed.error(request))
    assert reason == "WRONG_SHAPE"
    assert field in (f"inputs.{list(_COLUMNS)[place]}", f"raw_input_contents[{place}]")


@pytest.mark.parametrize(
    "raw",
    [
        struct.pack("<I2sI", 2, b"fr", 4) + b"\0\0\0",
        struct.pack("<I2sI", 2, b"fr", 2**32 - 1) + b"fr",
        struct.pack("<I", 2**31) + b"fr" * 10,
        struct.pack(">I2sI2s", 2, b"fr", 2, b"fr"),
        struct.pack("<I2sI2s", 2, b"fr", 1, b"fr"),
        struct.pack("<I2s2sI", 2, b"fr", b"fr", 2),
        struct.pack("<I6s", 6, b"frfrfr"),
        struct.pack("<I5s", 2, b"fr"),
    ],
)
def test_lengths_of_texts_that_lie_are_named(mixed: Served, raw: bytes) -> None:
    request = _by_name(_COLUMNS)
    request.raw_input_contents[2] = raw
    error = mixed.error(request)
    assert _faults(error) == [("raw_input_contents[2]", "WRONG_SHAPE")]
    assert error.message.startswith("country: ")


def test_raw_contents_are_there_for_each_input_or_for_none(mixed: Served) -> None:
    request = _by_name(_COLUMNS)
    request.raw_input_contents.append(b"")
    assert _faults(mixed.error(request)) == [("raw_input_contents", "WRONG_SHAPE")]
    request = _by_name(_COLUMNS)
    request.inputs[1].contents.fp32_contents.extend([1.0, 2.0])
    assert _faults(mixed.error(request)) == [("inputs.age.contents", "DUPLICATE")]


def test_typed_contents_are_in_the_field_of_their_datatype(mixed: Served) -> None:
    request = _by_name(_COLUMNS, raw=False)
    request.inputs[0].datatype = "FP64"
    error = mixed.error(request)
    assert _faults(error) == [("inputs.amount.contents", "WRONG_TYPE")]
    assert error.message == "amount: FP64 is in fp64_contents, and nothing in fp32_contents"
    request = _by_name(_COLUMNS, raw=False)
    request.inputs[0].contents.int64_contents.append(1)
    assert _faults(mixed.error(request)) == [("inputs.amount.contents", "WRONG_TYPE")]
    request = _by_name(_COLUMNS, raw=False)
    request.inputs[0].ClearField("contents")
    error = mixed.error(request)
    assert _faults(error) == [("inputs.amount.contents", "WRONG_SHAPE")]
    assert error.message == "amount: fp32_contents has 0 elements, but its shape 2"


def test_all_faults_of_tensors_are_told_at_once(mixed: Served) -> None:
    request = _by_name(_COLUMNS)
    request.inputs[0].datatype = "FP16"
    request.inputs[1].name = "Age"
    request.inputs[4].shape[0] = 3
    assert _faults(mixed.error(request)) == [
        ("inputs.amount.datatype", "WRONG_TYPE"),
        ("inputs.Age", "UNKNOWN_FEATURE"),
        ("inputs.balance.shape", "WRONG_SHAPE"),
        ("inputs.age", "MISSING_FEATURE"),
    ]


def test_a_request_without_an_input_is_named(mixed: Served) -> None:
    assert _faults(mixed.error(pb.ModelInferRequest(model_name="mixed"))) == [("inputs", "MISSING_INPUT")]


def test_a_feature_may_be_called_matrix(write_mixed: Callable[..., Path], tmp_path: Path) -> None:
    features = (*FEATURES[:4], replace(FEATURES[4], name="matrix"))
    served = Served(write_mixed(tmp_path, features=features).parents[1])
    columns = dict(list(_COLUMNS.items())[:4]) | {"matrix": _COLUMNS["balance"]}
    found = served.infer(_by_name(columns, features=features))
    assert _elements(found)["label"] == [b"yes", b"no"]


# Outputs, and what else a request asks for.


def _requesting(*names: str, raw: bool = True) -> pb.ModelInferRequest:
    request = _by_name(_COLUMNS, raw=raw)
    for name in names:
        request.outputs.add(name=name)
    return request


@pytest.mark.parametrize("raw", [True, False])
def test_outputs_are_those_requested_in_their_order(mixed: Served, raw: bool) -> None:
    everything = _elements(mixed.infer(_requesting(raw=raw)))
    for names in (["label"], ["out_of_range", "probability"], ["risk_level", "label", "probability"]):
        response = mixed.infer(_requesting(*names, raw=raw))
        assert [output.name for output in response.outputs] == names
        assert _elements(response) == {name: everything[name] for name in names}
        assert all(list(output.shape) == [2] for output in response.outputs)


@pytest.mark.parametrize("raw", [True, False])
def test_the_response_is_raw_if_the_request_was(mixed: Served, raw: bool) -> None:
    response = mixed.infer(_requesting(raw=raw))
    assert len(response.raw_output_contents) == (4 if raw else 0)
    assert [output.HasField("contents") for output in response.outputs] == [not raw] * 4


def test_an_output_that_is_none_or_comes_twice_is_named(mixed: Served) -> None:
    error = mixed.error(_requesting("label", "value", "label"))
    assert _faults(error) == [("outputs.value", "UNKNOWN_OUTPUT"), ("outputs.label", "DUPLICATE")]
    assert "probability, label, risk_level, out_of_range" in error.message


@pytest.mark.parametrize("name", ["classification", "shared_memory_region"])
def test_an_output_that_is_wanted_otherwise_is_named(mixed: Served, name: str) -> None:
    request = _requesting("label")
    request.outputs[0].parameters[name].int64_param = 3
    assert _faults(mixed.error(request)) == [("outputs.label.parameters", "UNSUPPORTED")]


def test_other_parameters_are_without_meaning(mixed: Served) -> None:
    request = _requesting("label")
    for parameters in (request.parameters, request.inputs[0].parameters, request.outputs[0].parameters):
        parameters["content_type"].string_param = "np"
    assert mixed.infer(request) == mixed.infer(_requesting("label"))


def test_id_and_version_are_answered(mixed: Served) -> None:
    response = mixed.infer(_by_name(_COLUMNS, id="ö\n\0" * 50, model_version="1.0.0"))
    assert (response.id, response.model_name, response.model_version) == ("ö\n\0" * 50, "mixed", "1.0.0")
    for fields in ({"model": "none"}, {"model_version": "2.0.0"}, {"model": ""}):
        assert mixed.error(_by_name(_COLUMNS, **fields)).code is Code.NOT_FOUND


# Admission, and work that nobody waits for: as for PredictBatch.


def test_rows_beyond_those_in_flight_are_refused_with_those_of_other_services(
    mixed_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scoring, "FEW", 4)
    served = Served(mixed_bundle.parents[1], Admission(10, 15))
    matrix = Matrix(rows=10, columns=5, data=struct.pack("<5f", 50, 40, 1, 1, 8) * 10)
    batch = PredictBatchRequest(model="mixed", matrix=matrix).SerializeToString()
    work = served.prediction.predict_batch(batch, _CALL)
    assert not isinstance(work, bytes)
    next(work)
    request = _by_position([[50, 40, 1, 1, 8]] * 6)
    with pytest.raises(StatusError) as caught:
        served.infer(request)
    assert caught.value.code is Code.RESOURCE_EXHAUSTED
    assert caught.value.message == "6 rows are too many now: 10 are in flight, and 15 may be"
    assert isinstance(caught.value.details[0], RetryInfo)
    mine = served.service.model_infer(_by_position([[50, 40, 1, 1, 8]] * 5).SerializeToString(), _CALL)
    next(mine)
    assert served.admission.rows == 15
    mine.close()
    _finish(work)
    assert served.admission.rows == 0
    assert served.infer(request)


def test_no_work_is_done_after_the_deadline_also_after_a_wait(
    mixed_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    served = Served(mixed_bundle.parents[1], Admission(10_000, 10_000))
    scored: list[int] = []
    session = served.models.serving("mixed", "")[1].session
    score = type(session).score

    def counted(self: Any, matrix: Any) -> Any:
        scored.append(len(matrix))
        return score(self, matrix)

    monkeypatch.setattr(type(session), "score", counted)
    columns = {name: [elements[0]] * 10_000 for name, elements in _COLUMNS.items()}
    for request in (_by_name(columns), _by_position([[50, 40, 1, 1, 8]] * 2_000)):
        assert served.error(request, Call(0.0, (), str)).code is Code.DEADLINE_EXCEEDED
    assert scored == []
    # Texts are read in steps, and rows are scored in steps.
    for steps in (2, 4):
        call = Call(math.inf, (), str)
        work: Work = served.service.model_infer(_by_name(columns).SerializeToString(), call)
        for _ in range(steps):
            next(work)
        before = len(scored)
        assert before == max(0, steps - 3)
        call.deadline = 0.0
        with pytest.raises(StatusError) as caught:
            next(work)
        assert caught.value.code is Code.DEADLINE_EXCEEDED
        assert len(scored) == before
        assert served.admission.rows == 0


def test_a_server_that_takes_no_work_says_so(mixed_bundle: Path) -> None:
    served = Served(mixed_bundle.parents[1])
    served.models.close()
    assert served.error(_by_name(_COLUMNS)).code is Code.UNAVAILABLE


# What server and models are.


def test_live_and_ready_are_what_health_says(mixed_bundle: Path) -> None:
    served = Served(mixed_bundle.parents[1])
    models = ("models/mixed",)
    served.health.set(False, *models)
    for names, expected in (
        ((), (False, False, False)),
        ((LIVENESS,), (True, False, False)),
        (models, (True, False, True)),
        ((InferenceService.name,), (True, True, True)),
    ):
        served.health.set(True, *names)
        found = (
            served.ask("ServerLive", pb.ServerLiveRequest(), pb.ServerLiveResponse).live,
            served.ask("ServerReady", pb.ServerReadyRequest(), pb.ServerReadyResponse).ready,
            served.ask("ModelReady", pb.ModelReadyRequest(name="mixed"), pb.ModelReadyResponse).ready,
        )
        assert found == expected
    for request in (pb.ModelReadyRequest(name="none"), pb.ModelReadyRequest(name="mixed", version="9.0.0")):
        with pytest.raises(StatusError) as caught:
            served.ask("ModelReady", request, pb.ModelReadyResponse)
        assert caught.value.code is Code.NOT_FOUND


def test_a_refused_bundle_is_not_ready_and_tells_why(
    write_mixed: Callable[..., Path], tmp_path: Path
) -> None:
    (write_mixed(tmp_path) / "model.onnx").write_bytes(b"")
    served = Served(tmp_path)
    assert not served.ask("ModelReady", pb.ModelReadyRequest(name="mixed"), pb.ModelReadyResponse).ready
    with pytest.raises(StatusError) as caught:
        served.ask("ModelMetadata", pb.ModelMetadataRequest(name="mixed"), pb.ModelMetadataResponse)
    assert caught.value.code is Code.UNAVAILABLE
    assert "digest" in caught.value.message
    assert served.error(_by_name(_COLUMNS)).code is Code.UNAVAILABLE


def test_a_refused_version_is_not_ready_while_another_is(
    write_mixed: Callable[..., Path], tmp_path: Path
) -> None:
    write_mixed(tmp_path)
    (write_mixed(tmp_path, version="1.1.0") / "model.onnx").write_bytes(b"")
    served = Served(tmp_path, followed=True)
    for version, ready in (("", True), ("1.0.0", True), ("1.1.0", False)):
        request = pb.ModelReadyRequest(name="mixed", version=version)
        assert served.ask("ModelReady", request, pb.ModelReadyResponse).ready is ready
    request = pb.ModelMetadataRequest(name="mixed")
    assert served.ask("ModelMetadata", request, pb.ModelMetadataResponse).versions == ["1.0.0"]


def test_server_metadata_tells_the_version(mixed: Served) -> None:
    found = served = mixed.ask("ServerMetadata", pb.ServerMetadataRequest(), pb.ServerMetadataResponse)
    assert (found.name, found.version, list(served.extensions)) == ("forest-serving", server.VERSION, [])
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    assert found.version == project["version"]


def test_model_metadata_tells_the_features_in_order(write_mixed: Callable[..., Path], tmp_path: Path) -> None:
    for version in ("1.0.0", "1.10.0", "1.9.0"):
        write_mixed(tmp_path, version=version)
    served = Served(tmp_path)
    found = served.ask("ModelMetadata", pb.ModelMetadataRequest(name="mixed"), pb.ModelMetadataResponse)
    assert (found.name, found.platform) == ("mixed", "onnxruntime_onnx")
    assert list(found.versions) == ["1.10.0", "1.9.0", "1.0.0"]
    assert [(each.name, each.datatype, list(each.shape)) for each in found.inputs] == [
        ("amount", "FP32", [-1]),
        ("age", "FP32", [-1]),
        ("country", "BYTES", [-1]),
        ("member", "BOOL", [-1]),
        ("balance", "FP32", [-1]),
    ]
    assert [(each.name, each.datatype, list(each.shape)) for each in found.outputs] == [
        ("probability", "FP64", [-1]),
        ("label", "BYTES", [-1]),
        ("risk_level", "BYTES", [-1]),
        ("out_of_range", "BYTES", [-1]),
    ]


@pytest.mark.parametrize("name", ["fraud", "credit", "churn", "demand"])
def test_model_metadata_is_what_a_request_and_its_answer_have(four: Served, name: str) -> None:
    found = four.ask("ModelMetadata", pb.ModelMetadataRequest(name=name), pb.ModelMetadataResponse)
    manifest = four.models.find(name, "").manifest
    assert manifest
    values = {"number": 1.0, "flag": True}
    request = pb.ModelInferRequest(model_name=name)
    for tensor, feature in zip(found.inputs, manifest.features, strict=True):
        value = feature.categories[0] if feature.type == "category" else values[feature.type]
        if feature.minimum is not None:
            value = feature.minimum
        _add(request, tensor.name, tensor.datatype, [value] * 3, [3], raw=True)
    response = four.infer(request)
    assert [(each.name, each.datatype) for each in response.outputs] == [
        (each.name, each.datatype) for each in found.outputs
    ]


# Hostile requests.


def test_a_request_of_countless_tiny_messages_is_refused_before_it_is_decoded(mixed: Served) -> None:
    for data in (
        b"\x2a\x00" * 1_000_000,
        b"\x22\x00" * 1_000_000,
        b"\x2a\x80\x89\x7a" + b"\x22\x00" * 1_000_000,
        b"\x32\x80\x89\x7a" + b"\x12\x00" * 1_000_000,
    ):
        with pytest.raises(StatusError) as caught:
            _finish(mixed.service.model_infer(data, _CALL))
        assert caught.value.code is Code.INVALID_ARGUMENT
        assert caught.value.message.startswith("the request is no inference.ModelInferRequest (")


def test_names_without_end_are_told_in_part(mixed: Served) -> None:
    request = pb.ModelInferRequest(model_name="mixed")
    for number in range(3_000):
        request.inputs.add(name=f"none {number}")
        request.outputs.add(name=f"none {number}")
    assert len(mixed.error(request).to_bytes()) < 4000
    del request.outputs[:]
    assert len(mixed.error(request).to_bytes()) < 4000


def test_a_wide_model_takes_a_tensor_for_each_feature(tmp_path: Path) -> None:
    features = tuple(Feature(f"f{number}", "number", "reject") for number in range(2_000))
    request = pb.ModelInferRequest()
    for feature in features:
        _add(request, feature.name, "FP32", [1.0] * 10, [10], raw=True)
    data = request.SerializeToString()
    assert len(data) > 100_000
    from server.inference_service import _decoded_infer

    found = tensors.Tensors(_decoded_infer(data), Encoder(features), 10)
    assert found.rows == 10


_NAMES = st.sampled_from([*_COLUMNS, "matrix", "tiers", ""])
_SIZES = st.sampled_from([0, 1, 2, 3, 5, 10, -1, 2**31, 2**32 + 2, 2**63 - 1, -(2**63)])
_CONTENTS = st.one_of(
    st.just(pb.InferTensorContents()),
    st.builds(pb.InferTensorContents, fp32_contents=st.lists(st.floats(width=32), max_size=10)),
    st.builds(pb.InferTensorContents, fp64_contents=st.lists(st.floats(), max_size=3)),
    st.builds(pb.InferTensorContents, int64_contents=st.lists(st.integers(-5, 2**62), max_size=3)),
    st.builds(pb.InferTensorContents, bool_contents=st.lists(st.booleans(), max_size=3)),
    st.builds(
        pb.InferTensorContents, bytes_contents=st.lists(st.sampled_from([b"fr", b"", b"\xff"]), max_size=3)
    ),
)
_TENSORS = st.builds(
    pb.ModelInferRequest.InferInputTensor,
    name=_NAMES,
    datatype=st.sampled_from([*_FIELDS, "FP16", ""]),
    shape=st.lists(_SIZES, max_size=3),
    contents=st.none() | _CONTENTS,
)
_RAW_CONTENTS = st.one_of(
    st.binary(max_size=48),
    st.lists(st.sampled_from([b"fr", b"", b"\xff" * 9]), max_size=3).map(_texts),
    st.lists(st.floats(width=32), max_size=10).map(lambda numbers: np.array(numbers, "<f4").tobytes()),
)
_REQUESTS = st.builds(
    pb.ModelInferRequest,
    model_name=st.just("mixed"),
    inputs=st.lists(_TENSORS, max_size=6),
    outputs=st.lists(
        st.builds(
            pb.ModelInferRequest.InferRequestedOutputTensor,
            name=st.sampled_from(["label", "probability", "out_of_range", "value"]),
        ),
        max_size=3,
    ),
    raw_input_contents=st.just([]) | st.lists(_RAW_CONTENTS, max_size=6),
)


def _attempt(served: Served, method: str, data: bytes) -> bytes | StatusError:
    """Return what a method answers, or its error."""
    try:
        answer = served.service.methods()[method].handle(data, _CALL)
        return answer if isinstance(answer, bytes) else _finish(answer)
    except StatusError as error:
        return error


def _check_attempt(served: Served, data: bytes) -> None:
    """Hold that a request is scored or refused, and leaves nothing behind."""
    answer = _attempt(served, "ModelInfer", data)
    if isinstance(answer, bytes):
        assert all(_elements(pb.ModelInferResponse.FromString(answer)).values())
    else:
        assert answer.code in (Code.INVALID_ARGUMENT, Code.NOT_FOUND)
        assert len(answer.to_bytes()) < 4000
    assert served.admission.rows == 0


@given(_REQUESTS)
@settings(max_examples=500)
def test_any_tensors_are_scored_or_refused(mixed: Served, request: pb.ModelInferRequest) -> None:
    _check_attempt(mixed, request.SerializeToString())


@given(st.booleans(), st.data())
@settings(max_examples=500)
def test_damaged_requests_are_scored_or_refused(mixed: Served, raw: bool, drawn: st.DataObject) -> None:
    data = bytearray(_by_name(_COLUMNS, raw=raw).SerializeToString())
    for _ in range(drawn.draw(st.integers(1, 4))):
        place = drawn.draw(st.integers(0, len(data)))
        data[place : place + drawn.draw(st.integers(0, 3))] = drawn.draw(st.binary(max_size=3))
    _check_attempt(mixed, bytes(data))


@given(st.binary(max_size=60))
def test_any_bytes_are_scored_or_refused(mixed: Served, data: bytes) -> None:
    _check_attempt(mixed, b"\x0a\x05mixed" + data)
    for method in ("ServerLive", "ServerReady", "ModelReady", "ServerMetadata", "ModelMetadata"):
        answer = _attempt(mixed, method, data)
        assert isinstance(answer, bytes) or answer.code in (Code.INVALID_ARGUMENT, Code.NOT_FOUND)


# No number is so low that the score, which stands for a probability, would be below 0.
_CODES = st.sampled_from(
    [0.0, 1.0, 2.0, 40.0, 100.5, 0.5, -1.0, math.nan, math.inf, -math.inf, 1e39, -1e39, -0.0]
) | st.floats(min_value=-1.0)
_ROWS = st.lists(
    st.tuples(
        _CODES,
        _CODES | st.floats(18, 99),
        st.sampled_from(["de", "fr", "ελ", "uk", "Fr", None]),
        st.booleans(),
        _CODES,
    ),
    min_size=1,
    max_size=6,
)


@given(_ROWS, st.booleans(), st.permutations(list(_COLUMNS)))
@settings(max_examples=500)
def test_rows_are_judged_as_predict_batch_judges_them(
    mixed: Served, rows: list[tuple[Any, ...]], raw: bool, order: list[str]
) -> None:
    records = [dict(zip(_COLUMNS, row, strict=True)) for row in rows]
    columns = {name: [record[name] for record in records] for name in order}
    columns["country"] = [text or "" for text in columns["country"]]
    datatypes = dict.fromkeys(("amount", "age", "balance"), "FP64")
    request = _by_name(columns, raw=raw, datatypes=datatypes)
    try:
        batch = mixed.batch(records=_records(records))
    except StatusError as error:
        expected = set(_faults(error))
    else:
        _check(mixed.infer(request), batch)
        return
    # A record with a fault in its texts or types is told of these alone; of tensors all faults are told.
    assert expected <= set(_faults(mixed.error(request)))
