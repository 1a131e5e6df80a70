"""Many calls in flight, their outcomes in the order of the rows."""

import time
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import grpc
from forest.v1.prediction_service_pb2 import PredictRequest, PredictResponse
from forest.v1.prediction_service_pb2_grpc import PredictionServiceStub

from forest_client.failure import Failure, failure_of
from forest_client.record import Columns, RecordError
from forest_client.table import Row

IN_FLIGHT = 32
"""Calls at a time. Enough to keep a server of several workers busy; more only lengthen each other's wait."""


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

    def outcome(self) -> "Refused":
        """Return itself: it needs no call."""
        return self


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
    ):
        self._predict = PredictionServiceStub(channel).Predict  # type: ignore[no-untyped-call] # as generated
        self._model = model
        self._version = version
        self._columns = columns
        self._source = source
        self._timeout = timeout

    def outcomes(self, rows: Iterable[Row]) -> Iterator[Scored | Refused]:
        """Yield an outcome for each row, in order. No more than `IN_FLIGHT` rows are held at a time.

        Raises
        ------
        ScoringStoppedError
            For the first call that fails for another reason than its row, after the outcomes before it.
        """
        pending: deque[_Call | Refused] = deque()
        for row in rows:
            pending.append(self._start(row))
            if len(pending) == IN_FLIGHT:
                yield pending.popleft().outcome()
        while pending:
            yield pending.popleft().outcome()

    def _start(self, row: Row) -> "_Call | Refused":
        try:
            record = self._columns.record(row.cells)
        except RecordError as error:
            return Refused(row, error.faults)
        request = PredictRequest(
            model=self._model,
            version=self._version,
            record=record,
            request_id=f"{self._source}:{row.line}",
        )
        started = time.perf_counter()
        # A file is better scored late than not at all: wait for a server that restarts.
        future = self._predict.future(request, timeout=self._timeout, wait_for_ready=True)
        return _Call(row, request.request_id, future, started)


class _Call:
    """A row's call under way."""

    def __init__(self, row: Row, request_id: str, future: Any, started: float):
        self._row = row
        self._request_id = request_id
        self._future = future
        self._started = started
        self._ended: float | None = None
        future.add_done_callback(self._end)

    def _end(self, _: Any) -> None:
        self._ended = time.perf_counter()

    def outcome(self) -> Scored | Refused:
        """Wait for the answer."""
        try:
            response: PredictResponse = self._future.result()
        except grpc.RpcError as error:
            failure = failure_of(error)
            if failure.code is grpc.StatusCode.INVALID_ARGUMENT:
                return Refused(self._row, faults_of(failure))
            raise ScoringStoppedError(self._request_id, failure.code, failure.message) from error
        # grpc hands out the result a moment before it calls back.
        ended = self._ended or time.perf_counter()
        if response.request_id != self._request_id:
            raise ScoringStoppedError(
                self._request_id, grpc.StatusCode.INTERNAL, f"answered as {response.request_id!r}"
            )
        return Scored(self._row, response, ended - self._started)


def faults_of(failure: Failure) -> tuple[str, ...]:
    """Return a text for each fault that the server found in a row, each with its feature's name."""
    return tuple(
        violation.message
        if violation.message.startswith(violation.feature)
        else f"{violation.feature}: {violation.message}"
        for violation in failure.violations
    ) or (failure.message,)
