"""`forest.v1.ModelService`: which models are here, what they take, and why one is refused."""

from collections.abc import Mapping

from forest.v1 import model_service_pb2 as pb

from model_bundle import manifest as bundle_manifest
from server.call import Call, Method, Unary
from server.catalog import Catalog
from server.decoding import decoded
from server.models import Model
from server.status import invalid_request

_PAGE = 100
_TASKS = {
    "binary_classification": pb.TASK_BINARY_CLASSIFICATION,
    "regression": pb.TASK_REGRESSION,
}
_TYPES = {
    "number": pb.Feature.TYPE_NUMBER,
    "category": pb.Feature.TYPE_CATEGORY,
    "flag": pb.Feature.TYPE_FLAG,
}
_MISSING = {"reject": pb.Feature.MISSING_REJECT, "impute": pb.Feature.MISSING_IMPUTE}
_OUT_OF_RANGE = {"warn": pb.Feature.OUT_OF_RANGE_WARN, "reject": pb.Feature.OUT_OF_RANGE_REJECT}


class ModelService:
    """Tells about the models.

    Parameters
    ----------
    models
        The models to tell about.
    max_batch_rows
        How many rows a request may have.
    """

    name = "forest.v1.ModelService"

    def __init__(self, models: Catalog, max_batch_rows: int):
        self._models = models
        self._max_batch_rows = max_batch_rows

    def methods(self) -> Mapping[str, Method]:
        """Return the service's methods by name."""
        return {"ListModels": Unary(self.list_models), "GetModel": Unary(self.get_model)}

    def list_models(self, data: bytes, _call: Call) -> bytes:
        """Answer a page of the list: a serialised ListModelsRequest in, a ListModelsResponse out."""
        request = decoded(pb.ListModelsRequest, data)
        if request.page_size < 0:
            raise invalid_request("page_size", "OUT_OF_RANGE", f"page_size {request.page_size} is negative")
        found = self._models.found
        # A page token is the index of the page's first model.
        token = request.page_token
        if token and not (token.isdecimal() and len(token) < 10 and int(token) < len(found)):
            raise invalid_request("page_token", "UNKNOWN_TOKEN", "page_token is none that this server gave")
        first = int(token or 0)
        last = first + min(request.page_size or _PAGE, _PAGE)
        return pb.ListModelsResponse(
            models=[self._describe(model) for model in found[first:last]],
            next_page_token=str(last) if last < len(found) else "",
        ).SerializeToString()

    def get_model(self, data: bytes, _call: Call) -> bytes:
        """Answer one model: a serialised GetModelRequest in, a GetModelResponse out."""
        request = decoded(pb.GetModelRequest, data)
        model = self._models.find(request.model, request.version)
        return pb.GetModelResponse(model=self._describe(model)).SerializeToString()

    def _describe(self, model: Model) -> pb.Model:
        described = pb.Model(
            name=model.name,
            version=model.version,
            digest=model.digest,
            state=pb.MODEL_STATE_REFUSED if model.refusal else pb.MODEL_STATE_SERVING,
            state_reason=model.refusal,
            default_version=self._models.is_default(model),
            max_batch_rows=self._max_batch_rows,
        )
        manifest = model.manifest
        if manifest is None:
            return described
        described.description = manifest.description
        described.task = _TASKS[manifest.task]
        described.features.extend(_feature(feature) for feature in manifest.features)
        described.labels.extend(manifest.labels)
        described.threshold = manifest.threshold
        described.risk_levels.extend(
            pb.RiskLevel(name=level.name, minimum=level.minimum) for level in manifest.risk_levels
        )
        if manifest.interval is not None:
            described.interval_coverage = manifest.interval.coverage
            described.interval_method = manifest.interval.method
        for name, metric in manifest.metrics.items():
            described.metrics[name].CopyFrom(pb.Metric(value=metric.value, low=metric.low, high=metric.high))
        lineage = manifest.lineage
        described.lineage.CopyFrom(
            pb.Lineage(
                recipe=lineage.recipe,
                data=lineage.data,
                data_digest=lineage.data_digest,
                rows=lineage.rows,
                seed=lineage.seed,
                libraries=lineage.libraries,
                parameters=lineage.parameters,
            )
        )
        return described


def _feature(feature: bundle_manifest.Feature) -> pb.Feature:
    described = pb.Feature(
        name=feature.name,
        type=_TYPES[feature.type],
        description=feature.description,
        categories=feature.categories,
        missing=_MISSING[feature.missing],
    )
    if feature.minimum is not None and feature.maximum is not None:
        described.minimum = feature.minimum
        described.maximum = feature.maximum
        described.out_of_range = _OUT_OF_RANGE[feature.out_of_range]
    return described
