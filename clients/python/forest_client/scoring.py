"""Rows by batches, some of them in flight, and their outcomes in the order of the rows."""

import time
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import grpc
from forest.v1.prediction_service_pb2 import (
    Classification,
    InputWarning,
    Interval,
    PredictBatchRequest,
    PredictBatchResponse,
    PredictRequest,
    PredictResponse,
    Record,
    Regression,
)
from forest.v1.prediction_service_pb2_grpc import PredictionServiceStub

from forest_client.failure import Failure, failure_of
from forest_client.record import Columns, RecordError
from forest_client.table import Row

BATCH_ROWS = 256
"""Rows of a batch. More would hardly be faster."""

BATCHES_IN_FLIGHT = 4
"""Batches at a time: the next ones are made, and other servers are at work, while one is scored."""

# A request must stay below a server's limit, which is 4 MiB by default.
_BATCH_BYTES = 1024 * 1024
# Calls at a time for the rows of a batch that was refused.
_CALLS_IN_FLIGHT = 32
# Why a batch is scored row by row: one of its rows is at fault, or the server is older than batches.
_ROW_BY_ROW = (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.UNIMPLEMENTED)


class ScoringStoppedError(Exception):
    """A call failed for a reason that is not its row's, so the next ones would fail too."""

    def __init__(self, request_id: str, code: grpc.StatusCode, message: str):
        super().__init__(f"{request_id}: {code.name}: {message}")


@dataclass(frozen=True, slots=True)
class Scored:
    """A row with its answer, and how many seconds the call took."""

    row: Row
    response: PredictResponse
    seconds: float


@dataclass(frozen=True, slots=True)
class Refused:
    """A row that cannot be scored, with a text for each of its faults."""

    row: Row
    faults: tuple[str, ...]


class Scoring:
    """Scores the rows of a table with one model.

    Parameters
    ----------
    channel
        To the server.
    model, version
        What to score with. An empty version is the server's choice.
    columns
        How to read a row.
    source
        What request ids begin with: they are ``source:line``.
    timeout
        Seconds that each call may take, retries and the wait for a server that restarts included.
    batch_rows
        How many rows the server takes at once; 0 if it does not say.
    """

    def __init__(
        self,
        channel: grpc.Channel,
        *,
        model: str,
        version: str,
        columns: Columns,
        source: str,
        timeout: float,
        batch_rows: int = 0,
    ):
        self._stub = PredictionServiceStub(channel)  # type: ignore[no-untyped-call] # as generated
        self._batch_rows = min(BATCH_ROWS, batch_rows or BATCH_ROWS)
        self._model = model
        self._version = version
        self._columns = columns
        self._source = source
        self._timeout = timeout

    def outcomes(self, rows: Iterable[Row]) -> Iterator[Scored | Refused]:
        """Yield an outcome for each row, in order. A few batches of rows are held at a time.

        Raises
        ------
        ScoringStoppedError
            For the first call that fails for another reason than its rows, after the outcomes before it.
        """
        pending: deque[_Batch] = deque()
        for batch in self._batches(rows):
            pending.append(batch)
            if len(pending) == BATCHES_IN_FLIGHT:
                yield from self._outcomes_of(pending.popleft())
        while pending:
            yield from self._outcomes_of(pending.popleft())

    def _batches(self, rows: Iterable[Row]) -> Iterator["_Batch"]:
        """Yield batches whose calls are under way."""
        batch, size = _Batch(), 0
        for row in rows:
            try:
                record = self._columns.record(row.cells)
            except RecordError as error:
                batch.rows.append(Refused(row, error.faults))
            else:
                batch.rows.append((row, record))
                size += record.ByteSize()
            if len(batch.rows) == self._batch_rows or size >= _BATCH_BYTES:
                yield self._started(batch)
                batch, size = _Batch(), 0
        if batch.rows:
            yield self._started(batch)

    def _started(self, batch: "_Batch") -> "_Batch":
        sent = batch.sent()
        if sent:
            request = PredictBatchRequest(
                model=self._model, version=self._version, request_id=self._request_id(sent[0][0])
            )
            request.records.records.extend(record for _, record in sent)
            # A file is better scored late than not at all: wait for a server that restarts.
            batch.call = _Call(
                request.request_id,
                self._stub.PredictBatch.future(request, timeout=self._timeout, wait_for_ready=True),
            )
        return batch

    def _outcomes_of(self, batch: "_Batch") -> Iterator[Scored | Refused]:
        scored: Iterator[Scored | Refused] | None = None
        for row in batch.rows:
            if isinstance(row, Refused):
                yield row
                continue
            if scored is None:
                scored = self._scored(batch)
            yield next(scored)

    def _scored(self, batch: "_Batch") -> Iterator[Scored | Refused]:
        """Yield the outcomes of the rows that were sent."""
        assert batch.call is not None  # noqa: S101 - it has been started, for there are such rows
        try:
            response, seconds = batch.call.answer()
        except _CallError as error:
            if error.failure.code in _ROW_BY_ROW:
                yield from self._row_by_row(batch.sent())
                return
            raise error.stopped() from error
        for number, ((row, _), answer) in enumerate(zip(batch.sent(), _rows(response), strict=True)):
            answer.request_id = self._request_id(row)
            answer.warnings.extend(
                InputWarning(feature=warning.feature, reason=warning.reason, message=warning.message)
                for warning in batch.warnings(response, number)
            )
            yield Scored(row, answer, seconds)

    def _row_by_row(self, rows: list[tuple[Row, Record]]) -> Iterator[Scored | Refused]:
        pending: deque[tuple[Row, _Call]] = deque()
        for row, record in rows:
            request = PredictRequest(
                model=self._model, version=self._version, record=record, request_id=self._request_id(row)
            )
            future = self._stub.Predict.future(request, timeout=self._timeout, wait_for_ready=True)
            pending.append((row, _Call(request.request_id, future)))
            if len(pending) == _CALLS_IN_FLIGHT:
                yield _outcome(*pending.popleft())
        while pending:
            yield _outcome(*pending.popleft())

    def _request_id(self, row: Row) -> str:
        return f"{self._source}:{row.line}"


class _Batch:
    """Rows that belong together, those that cannot be sent among them, and the call for the others."""

    def __init__(self) -> None:
        self.rows: list[tuple[Row, Record] | Refused] = []
        self.call: _Call | None = None
        self._warnings: dict[int, list[Any]] | None = None

    def sent(self) -> list[tuple[Row, Record]]:
        """Return the rows that are sent."""
        return [row for row in self.rows if not isinstance(row, Refused)]

    def warnings(self, response: PredictBatchResponse, number: int) -> list[Any]:
        """Return what an answer says is odd about one of the rows that were sent."""
        if self._warnings is None:
            self._warnings = {}
            for warning in response.warnings:
                for row in warning.rows:
                    self._warnings.setdefault(row, []).append(warning)
        return self._warnings.get(number, [])


class _CallError(Exception):
    """A call that failed."""

    def __init__(self, request_id: str, failure: Failure):
        super().__init__(failure.message)
        self._request_id = request_id
        self.failure = failure

    def stopped(self) -> ScoringStoppedError:
        """Return the error of who is not to blame for it."""
        return ScoringStoppedError(self._request_id, self.failure.code, self.failure.message)


class _Call:
    """A call under way."""

    def __init__(self, request_id: str, future: Any):
        self._request_id = request_id
        self._future = future
        self._started = time.perf_counter()
        self._ended: float | None = None
        future.add_done_callback(self._end)

    def _end(self, _: Any) -> None:
        self._ended = time.perf_counter()

    def answer(self) -> tuple[Any, float]:
        """Wait for the response; return it, and how many seconds it took."""
        try:
            response = self._future.result()
        except grpc.RpcError as error:
            raise _CallError(self._request_id, failure_of(error)) from error
        # grpc hands out the result a moment before it calls back.
        ended = self._ended or time.perf_counter()
        if response.request_id != self._request_id:
            raise ScoringStoppedError(
                self._request_id, grpc.StatusCode.INTERNAL, f"answered as {response.request_id!r}"
            )
        return response, ended - self._started


def _outcome(row: Row, call: _Call) -> Scored | Refused:
    try:
        return Scored(row, *call.answer())
    except _CallError as error:
        if error.failure.code is grpc.StatusCode.INVALID_ARGUMENT:
            return Refused(row, faults_of(error.failure))
        raise error.stopped() from error


def _rows(response: PredictBatchResponse) -> Iterator[PredictResponse]:
    """Yield a batch's answer row by row, but for request ids and warnings."""
    whole: dict[str, Any] = {
        "model": response.model,
        "version": response.version,
        "digest": response.digest,
    }
    if response.HasField("regressions"):
        regressions = response.regressions
        for value, low, high in zip(regressions.values, regressions.lows, regressions.highs, strict=True):
            interval = Interval(low=low, high=high, coverage=regressions.coverage)
            yield PredictResponse(regression=Regression(value=value, interval=interval), **whole)
        return
    decided = response.classifications
    labels, levels, threshold = list(decided.labels), list(decided.risk_levels), decided.threshold
    for probability, label, level in zip(
        decided.probabilities, decided.label_indices, decided.risk_level_indices, strict=True
    ):
        yield PredictResponse(
            classification=Classification(
                label=labels[label],
                probability=probability,
                threshold=threshold,
                risk_level=levels[level],
            ),
            **whole,
        )


def faults_of(failure: Failure) -> tuple[str, ...]:
    """Return a text for each fault that the server found in a row, each with its feature's name."""
    return tuple(
        violation.message
        if violation.message.startswith(violation.feature)
        else f"{violation.feature}: {violation.message}"
        for violation in failure.violations
    ) or (failure.message,)
