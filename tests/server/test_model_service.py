"""ListModels and GetModel, without a transport."""

from collections.abc import Callable
from pathlib import Path

import pytest
from forest.v1 import model_service_pb2 as pb

from model_bundle import digest
from server.call import Call
from server.model_service import ModelService
from server.models import Models
from server.status import Code, StatusError


def _service(folder: Path) -> ModelService:
    models = Models(folder)
    models.load()
    return ModelService(models, 123)


@pytest.fixture
def five(tmp_path: Path, write_mixed: Callable[..., Path]) -> ModelService:
    """Return a service with five models, the last of them refused."""
    for minor in range(4):
        write_mixed(tmp_path, version=f"1.{minor}.0")
    (write_mixed(tmp_path, model="refused") / "model.onnx").write_bytes(b"tampered")
    return _service(tmp_path)


def _list(service: ModelService, call: Call, **fields: object) -> pb.ListModelsResponse:
    return pb.ListModelsResponse.FromString(
        service.list_models(pb.ListModelsRequest(**fields).SerializeToString(), call)
    )


def _get(service: ModelService, call: Call, model: str, version: str = "") -> pb.Model:
    request = pb.GetModelRequest(model=model, version=version)
    return pb.GetModelResponse.FromString(service.get_model(request.SerializeToString(), call)).model


def test_get_model_tells_everything_of_the_manifest(mixed_bundle: Path, call: Call) -> None:
    service = _service(mixed_bundle.parents[1])
    model = _get(service, call, "mixed")
    feature = pb.Feature
    assert model == pb.Model(
        name="mixed",
        version="1.0.0",
        digest=digest.of_file(mixed_bundle / "manifest.json"),
        state=pb.MODEL_STATE_SERVING,
        default_version=True,
        max_batch_rows=123,
        description="Every type of feature and every rule.",
        task=pb.TASK_BINARY_CLASSIFICATION,
        features=[
            feature(
                name="amount",
                type=feature.TYPE_NUMBER,
                description="In euro.",
                minimum=0,
                maximum=100,
                out_of_range=feature.OUT_OF_RANGE_WARN,
                missing=feature.MISSING_IMPUTE,
            ),
            feature(
                name="age",
                type=feature.TYPE_NUMBER,
                description="In years.",
                minimum=18,
                maximum=99,
                out_of_range=feature.OUT_OF_RANGE_REJECT,
                missing=feature.MISSING_REJECT,
            ),
            feature(
                name="country",
                type=feature.TYPE_CATEGORY,
                description="Where.",
                categories=["de", "fr", "ελ"],
                missing=feature.MISSING_IMPUTE,
            ),
            feature(
                name="member",
                type=feature.TYPE_FLAG,
                description="Whether a member.",
                missing=feature.MISSING_REJECT,
            ),
            feature(name="balance", type=feature.TYPE_NUMBER, missing=feature.MISSING_REJECT),
        ],
        labels=["no", "yes"],
        threshold=0.3,
        risk_levels=[pb.RiskLevel(name="low", minimum=0), pb.RiskLevel(name="high", minimum=0.5)],
        metrics={
            "f1": pb.Metric(value=0.9, low=0.8, high=1.0),
            "roc_auc": pb.Metric(value=0.95, low=0.9, high=0.99),
        },
        lineage=pb.Lineage(
            recipe="mixed",
            data="by hand",
            data_digest=digest.of_bytes(b""),
            rows=3,
            seed=7,
            libraries={"numpy": "2"},
            parameters={"n_estimators": "1"},
        ),
    )
    assert not model.features[4].HasField("minimum")
    assert model.features[0].HasField("minimum")
    assert _list(service, call).models[0] == model


def test_a_refused_model_is_told_with_its_reason_and_what_its_manifest_says(
    five: ModelService, call: Call
) -> None:
    model = _get(five, call, "refused")
    assert model.state == pb.MODEL_STATE_REFUSED
    assert model.state_reason.startswith("model.onnx: its digest is sha256:")
    assert (model.digest[:7], len(model.features)) == ("sha256:", 5)


def test_a_model_without_a_readable_manifest_is_told_too(
    tmp_path: Path, write_mixed: Callable[..., Path], call: Call
) -> None:
    (write_mixed(tmp_path) / "manifest.json").write_bytes(b"{")
    model = _get(_service(tmp_path), call, "mixed")
    assert (model.name, model.version, model.digest) == ("mixed", "1.0.0", "")
    assert model.state == pb.MODEL_STATE_REFUSED
    assert model.state_reason.startswith("manifest.json: not JSON")


def test_versions_are_found_and_the_highest_is_the_default(five: ModelService, call: Call) -> None:
    assert _get(five, call, "mixed").version == "1.3.0"
    assert _get(five, call, "mixed", "1.1.0").version == "1.1.0"
    assert not _get(five, call, "mixed", "1.1.0").default_version
    for name, version in (("mixed", "9.0.0"), ("none", ""), ("", "")):
        with pytest.raises(StatusError) as caught:
            _get(five, call, name, version)
        assert caught.value.code is Code.NOT_FOUND


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 6, 100, 2**31 - 1])
def test_pages_together_are_the_whole_list(five: ModelService, call: Call, size: int) -> None:
    everything = _list(five, call)
    assert [(model.name, model.version) for model in everything.models] == [
        ("mixed", "1.3.0"),
        ("mixed", "1.2.0"),
        ("mixed", "1.1.0"),
        ("mixed", "1.0.0"),
        ("refused", "1.0.0"),
    ]
    assert everything.next_page_token == ""
    models, token = [], ""
    while True:
        page = _list(five, call, page_size=size, page_token=token)
        assert len(page.models) <= size
        models += page.models
        token = page.next_page_token
        if not token:
            break
    assert models == list(everything.models)


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"page_size": -1}, "page_size"),
        ({"page_token": "x"}, "page_token"),
        ({"page_token": "-1"}, "page_token"),
        ({"page_token": "5"}, "page_token"),
        ({"page_token": "9" * 5000}, "page_token"),
        ({"page_token": "²"}, "page_token"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_a_page_that_cannot_be_is_invalid_and_names_the_field(
    five: ModelService, call: Call, fields: dict[str, object], field: str
) -> None:
    with pytest.raises(StatusError) as caught:
        _list(five, call, **fields)
    assert caught.value.code is Code.INVALID_ARGUMENT
    assert caught.value.details[0].field_violations[0].field == field


def test_an_empty_folder_lists_nothing(tmp_path: Path, call: Call) -> None:
    assert _list(_service(tmp_path), call) == pb.ListModelsResponse()


def test_bytes_that_are_no_request_are_invalid(five: ModelService, call: Call) -> None:
    for method in (five.list_models, five.get_model):
        with pytest.raises(StatusError) as caught:
            method(b"\xff", call)
        assert caught.value.code is Code.INVALID_ARGUMENT
