"""`forest.v1.PredictionService`: decode, admit, validate and encode, run, answer."""

from collections.abc import Generator, Mapping
from time import perf_counter_ns
from typing import Any, TypeVar

import numpy as np
from forest.v1.prediction_service_pb2 import (
    BatchWarning,
    Classification,
    Classifications,
    InputWarning,
    Interval,
    PredictBatchRequest,
    PredictBatchResponse,
    PredictRequest,
    PredictResponse,
    PredictStreamRequest,
    PredictStreamResponse,
    Regression,
    Regressions,
)
from google.protobuf.message import DecodeError
from google.rpc.status_pb2 import Status
from numpy.typing import NDArray

from model_bundle.decision import Decision, Estimate
from model_bundle.encoding import InvalidRow, InvalidRows
from server import rows, scoring
from server.admission import Admission
from server.call import Call, Exchange, Method, Unary, Work
from server.catalog import Catalog
from server.decoding import decoded
from server.outline import MatrixOutline, Outline, OutlineError, RecordsOutline, outline
from server.status import Code, StatusError, invalid_request, invalid_row, invalid_rows, late, undecodable

# A stream's messages up to this size are decoded at once: most hold one row.
_SMALL = 16 * 1024
# So many records are decoded and scored as fast as `scoring.FEW` rows of a matrix.
_FEW_RECORDS = 16
# What is a message's own fault, and does not end the stream that it came by.
_OF_A_MESSAGE = (Code.INVALID_ARGUMENT, Code.NOT_FOUND, Code.RESOURCE_EXHAUSTED)

_Request = TypeVar("_Request", PredictRequest, PredictBatchRequest, PredictStreamRequest)


class PredictionService:
    """Scores rows.

    Parameters
    ----------
    models
        Where requests find their model.
    admission
        What many rows need to be taken; None for one of its own, with its defaults.
    """

    name = "forest.v1.PredictionService"

    def __init__(self, models: Catalog, admission: Admission | None = None):
        self._models = models
        self._admission = admission or Admission()

    def methods(self) -> Mapping[str, Method]:
        """Return the service's methods by name."""
        return {
            "Predict": Unary(self.predict),
            "PredictBatch": Unary(self.predict_batch),
            "PredictStream": Exchange(self.predict_stream),
        }

    def predict(self, data: bytes, call: Call) -> bytes:
        """Score one row: a serialised PredictRequest in, a serialised PredictResponse out."""
        return self._score_row(decoded(PredictRequest, data), call)

    def predict_batch(self, data: bytes, call: Call) -> Work:
        """Score many rows: a serialised PredictBatchRequest in, a serialised PredictBatchResponse out.

        Few rows take one step, and so no change of threads.
        """
        described = self._outline(data, PredictBatchRequest)
        request = decoded(PredictBatchRequest, described.head)
        answer, warnings = yield from self._score_rows(request, data, described.rows, call)
        return PredictBatchResponse(**answer, warnings=warnings).SerializeToString()

    def predict_stream(self, data: bytes, call: Call) -> bytes | Work:
        """Score a stream's message: a serialised PredictStreamRequest in, a PredictStreamResponse out.

        The fields that are about one row have the numbers that they have in Predict's messages.
        """
        try:
            if len(data) <= _SMALL:
                request = decoded(PredictStreamRequest, data)
                kind = request.WhichOneof("input")
                if kind == "matrix":
                    matrix = request.matrix
                    described = MatrixOutline(matrix.rows, matrix.columns, 0, len(matrix.data))
                    return self._stream_rows(request, matrix.data, described, call)
                if kind != "records":
                    return self._score_row(request, call)
            parts = self._outline(data, PredictStreamRequest)
            request = decoded(PredictStreamRequest, parts.head)
            if parts.rows is None:
                return self._score_row(request, call)
        except StatusError as error:
            return _failed(data, error)
        return self._stream_rows(request, data, parts.rows, call)

    def _stream_rows(
        self,
        request: PredictStreamRequest,
        data: bytes,
        described: MatrixOutline | RecordsOutline,
        call: Call,
    ) -> Work:
        try:
            answer, warnings = yield from self._score_rows(request, data, described, call)
        except StatusError as error:
            return _failure(request.request_id, error)
        return PredictStreamResponse(**answer, batch_warnings=warnings).SerializeToString()

    def _score_row(self, request: PredictRequest | PredictStreamRequest, call: Call) -> bytes:
        call.request_id = request.request_id
        model, bundle = self._models.serving(request.model, request.version)
        call.model = model.name
        if call.expired():
            raise late()
        kind = request.WhichOneof("input")
        with model.lock:
            try:
                if kind == "vector":
                    odd = bundle.encoder.encode_vector(request.vector.values)
                elif kind == "record":
                    odd = rows.encode_record(bundle.encoder, request.record)
                else:
                    raise invalid_request(
                        "input", "MISSING_INPUT", "the request has no row: set 'record' or 'vector'"
                    )
            except InvalidRow as error:
                raise invalid_row(0, error.violations) from error
            call.decoded = perf_counter_ns()
            score = bundle.session.score_row()
            call.scored = perf_counter_ns()
            model.decisions.row(call, bundle.encoder.row, score)
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

    def _outline(self, data: bytes, message: type[PredictBatchRequest | PredictStreamRequest]) -> Outline:
        fields = message.DESCRIPTOR.fields_by_name
        try:
            return outline(
                data, fields["records"].number, fields["matrix"].number, self._admission.max_batch_rows
            )
        except OutlineError as error:
            raise undecodable(message.DESCRIPTOR.full_name, str(error)) from error

    def _score_rows(
        self,
        request: PredictBatchRequest | PredictStreamRequest,
        data: bytes,
        described: MatrixOutline | RecordsOutline | None,
        call: Call,
    ) -> Generator[None, None, tuple[dict[str, Any], list[BatchWarning]]]:
        """Return an answer's fields but for its warnings, and these. The first step admits the rows.

        The rows are where they are described to be in ``data``, and not in the request.
        """
        call.request_id = request.request_id
        model, bundle = self._models.serving(request.model, request.version)
        call.model = model.name
        if described is None:
            raise invalid_request(
                "input", "MISSING_INPUT", "the request has no rows: set either 'records' or 'matrix'"
            )
        count = rows.count(described, self._admission.max_batch_rows)
        with self._admission.admitted(count):
            if count > (scoring.FEW if isinstance(described, MatrixOutline) else _FEW_RECORDS):
                yield
            try:
                matrix = yield from rows.decode(data, described, bundle.encoder, call)
                scored = yield from scoring.score(bundle, model.decisions, matrix, call)
            except InvalidRows as error:
                raise invalid_rows(error.faults) from error
            answer = {
                "request_id": request.request_id,
                "model": model.name,
                "version": model.version,
                "digest": model.digest,
                **_outcomes(bundle.decision, scored.scores),
            }
            warnings = [
                BatchWarning(
                    feature=odd.feature,
                    reason=InputWarning.REASON_OUT_OF_TRAINING_RANGE,
                    message=odd.message,
                    rows=odd.rows.tolist(),
                )
                for odd in scored.odd
            ]
            return answer, warnings


def _failed(request: bytes, error: StatusError) -> bytes:
    """Return the answer to a stream's message that cannot be scored, perhaps because it cannot be read."""
    try:
        request_id = PredictStreamRequest.FromString(request).request_id
    except DecodeError:
        request_id = ""
    return _failure(request_id, error)


def _failure(request_id: str, error: StatusError) -> bytes:
    """Return the answer to a stream's message that cannot be scored. Raises what ends the stream."""
    if error.code not in _OF_A_MESSAGE:
        raise error
    return PredictStreamResponse(
        request_id=request_id, error=Status.FromString(error.to_bytes())
    ).SerializeToString()


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


def _outcomes(decision: Decision | Estimate, scores: NDArray[np.float64]) -> dict[str, Any]:
    """Return the outcomes of many rows, as a field of their answer.

    Columns are read by protobuf from bytes that numpy has written, in a tenth of the time that lists take.
    """
    if isinstance(decision, Decision):
        labels, levels = decision.label_indices(scores), decision.risk_level_indices(scores)
        classifications = Classifications.FromString(
            _column(1, scores) + _column(2, labels) + _column(3, levels)
        )
        classifications.labels.extend(decision.labels)
        classifications.risk_levels.extend(decision.risk_levels)
        classifications.threshold = decision.threshold
        return {"classifications": classifications}
    lows, highs = decision.intervals(scores)
    regressions = Regressions.FromString(_column(1, scores) + _column(2, lows) + _column(3, highs))
    regressions.coverage = decision.coverage
    return {"regressions": regressions}


def _column(number: int, values: NDArray[Any]) -> bytes:
    """Return a repeated field of doubles, or of small whole numbers, as protobuf writes it."""
    if values.dtype == np.float64:
        data = values.astype("<f8").tobytes()
    elif values.max() < 128:
        data = values.astype(np.uint8).tobytes()
    else:
        data = b"".join(map(_varint, values.tolist()))
    return bytes([number << 3 | 2]) + _varint(len(data)) + data


def _varint(value: int) -> bytes:
    data = bytearray()
    while value > 127:
        data.append(value & 127 | 128)
        value >>= 7
    data.append(value)
    return bytes(data)
