"""`forest.v1.PredictionService`: decode, validate and encode, run, answer."""

from collections.abc import Mapping
from typing import Any

from forest.v1.prediction_service_pb2 import (
    Classification,
    InputWarning,
    Interval,
    PredictRequest,
    PredictResponse,
    Record,
    Regression,
)
from google.protobuf.message import DecodeError

from model_bundle.decision import Decision, Estimate
from model_bundle.encoding import Encoder, InvalidRow, OutOfTrainingRange, Value
from server.call import Call, Method, Unary
from server.catalog import Catalog
from server.status import Code, StatusError, invalid_request, invalid_row


class PredictionService:
    """Scores rows.

    Parameters
    ----------
    models
        Where requests find their model.
    """

    name = "forest.v1.PredictionService"

    def __init__(self, models: Catalog):
        self._models = models

    def methods(self) -> Mapping[str, Method]:
        """Return the service's methods by name."""
        return {"Predict": Unary(self.predict)}

    def predict(self, data: bytes, call: Call) -> bytes:
        """Score one row: a serialised PredictRequest in, a serialised PredictResponse out."""
        try:
            request = PredictRequest.FromString(data)
        except DecodeError as error:
            raise undecodable(PredictRequest.DESCRIPTOR.full_name) from error
        model = self._models.find(request.model, request.version)
        bundle = model.bundle
        if bundle is None:
            raise StatusError(
                Code.UNAVAILABLE, f"model {model.name} {model.version} is not served: {model.refusal}"
            )
        if call.expired():
            raise StatusError(Code.DEADLINE_EXCEEDED, "the deadline had passed before the row was scored")
        kind = request.WhichOneof("input")
        with model.lock:
            try:
                if kind == "vector":
                    odd = bundle.encoder.encode_vector(request.vector.values)
                elif kind == "record":
                    odd = _encode(bundle.encoder, request.record)
                else:
                    raise invalid_request(
                        "input", "MISSING_INPUT", "the request has no row: set 'record' or 'vector'"
                    )
            except InvalidRow as error:
                raise invalid_row(0, error.violations) from error
            score = bundle.session.score_row()
        decision = bundle.decision
        if isinstance(decision, Decision):
            outcome: dict[str, Any] = {"classification": _classification(decision, score)}
        else:
            outcome = {"regression": _regression(decision, score)}
        response = PredictResponse(
            request_id=request.request_id,
            model=model.name,
            version=model.version,
            digest=model.digest,
            **outcome,
        )
        if odd:
            response.warnings.extend(
                InputWarning(
                    feature=value.feature,
                    reason=InputWarning.REASON_OUT_OF_TRAINING_RANGE,
                    message=value.message,
                )
                for value in odd
            )
        return response.SerializeToString()


def undecodable(message: str) -> StatusError:
    """Return the error of bytes that are not the message that a method takes."""
    return StatusError(
        Code.INVALID_ARGUMENT, f"the request is no {message}: generate the client's stubs again from proto/"
    )


def _classification(decision: Decision, probability: float) -> Classification:
    return Classification(
        label=decision.label(probability),
        probability=probability,
        threshold=decision.threshold,
        risk_level=decision.risk_level(probability),
    )


def _regression(estimate: Estimate, value: float) -> Regression:
    low, high = estimate.interval(value)
    return Regression(value=value, interval=Interval(low=low, high=high, coverage=estimate.coverage))


def _encode(encoder: Encoder, record: Record) -> list[OutOfTrainingRange]:
    """Encode a record. The usual one, with every feature and each of its type, is read in their order.

    To ask a message what it holds takes as long as reading three of its fields. A field that reads as other
    than nothing is held; only zeros, empty texts and False must be asked about.
    """
    found = record.features
    values: list[Value] = []
    for name, kind in encoder.kinds:
        # A feature that is absent is added here, and holds nothing: a missing value is just that.
        message = found[name]
        value = getattr(message, kind)
        if not value and not message.HasField(kind):
            break
        values.append(value)
    if len(values) == len(found):
        return encoder.encode_values(values)
    return encoder.encode_record(
        {
            name: getattr(value, kind) if (kind := value.WhichOneof("kind")) else None
            for name, value in found.items()
        }
    )
