"""Batches and streams over the wire, from the real process: bits, bounds, and how they end."""

import itertools
import re
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from forest.v1.model_service_pb2 import GetModelRequest
from forest.v1.model_service_pb2_grpc import ModelServiceStub
from forest.v1.prediction_service_pb2 import (
    Matrix,
    PredictBatchRequest,
    PredictRequest,
    PredictStreamRequest,
    Record,
    Records,
    Value,
    Vector,
)
from forest.v1.prediction_service_pb2_grpc import PredictionServiceStub
from forest_client import failure_of
from google.rpc import error_details_pb2, status_pb2

_TIMEOUT = 30
_MIB = 1024
_STREAMS = 8
_UNAVAILABLE = grpc.StatusCode.UNAVAILABLE


def _matrix(rows: Any) -> Matrix:
    matrix = np.asarray(rows, "<f4")
    return Matrix(rows=matrix.shape[0], columns=matrix.shape[1], data=matrix.tobytes())


def _rows(golden: list[Any], count: int) -> np.ndarray[Any, Any]:
    """Return so many rows of the golden ones, none of which is refused."""
    return np.array([row.values for row in itertools.islice(itertools.cycle(golden), count)], "<f4")


@pytest.fixture
def channel(server: Any, connect: Callable[..., Any]) -> Iterator[grpc.Channel]:
    with connect(server.target) as opened:
        yield opened


@pytest.fixture
def stub(channel: grpc.Channel) -> PredictionServiceStub:
    return PredictionServiceStub(channel)


def test_every_golden_row_scores_in_a_batch_as_it_does_alone(
    stub: PredictionServiceStub, names: list[str], golden: list[Any]
) -> None:
    alone = [
        stub.Predict(PredictRequest(model="fraud", vector=Vector(values=row.values)), timeout=_TIMEOUT)
        for row in golden
    ]
    records = [
        Record(features={name: Value(number=value) for name, value in zip(names, row.values, strict=True)})
        for row in golden
    ]
    for fields in (
        {"matrix": _matrix([row.values for row in golden])},
        {"records": Records(records=records)},
    ):
        answer = stub.PredictBatch(
            PredictBatchRequest(model="fraud", request_id="a", **fields), timeout=_TIMEOUT
        )
        found = answer.classifications
        assert list(found.probabilities) == [row.classification.probability for row in alone]
        assert [found.labels[place] for place in found.label_indices] == [row.label for row in golden]
        assert [found.risk_levels[place] for place in found.risk_level_indices] == [
            row.classification.risk_level for row in alone
        ]
        assert (answer.request_id, answer.digest) == ("a", alone[0].digest)
        odd = {(warning.feature, row) for warning in answer.warnings for row in warning.rows}
        assert odd == {
            (warning.feature, number) for number, row in enumerate(alone) for warning in row.warnings
        }


def test_a_stream_answers_each_message_in_order_and_goes_on_after_an_error(
    stub: PredictionServiceStub, golden: list[Any]
) -> None:
    def requests() -> Iterator[PredictStreamRequest]:
        for number in range(300):
            fields: dict[str, Any] = {
                0: {"vector": Vector(values=golden[number % len(golden)].values)},
                1: {"matrix": _matrix(_rows(golden, number + 1))},
                2: {"vector": Vector(values=[1.0])},
                3: {"matrix": Matrix(rows=2, columns=30, data=b"too short")},
                4: {"record": Record()},
            }[number % 5]
            yield PredictStreamRequest(model="fraud", request_id=str(number), **fields)

    answers = list(stub.PredictStream(requests(), timeout=60))
    assert [answer.request_id for answer in answers] == [str(number) for number in range(300)]
    for number, answer in enumerate(answers):
        outcome = {0: "classification", 1: "classifications"}.get(number % 5, "error")
        assert answer.WhichOneof("outcome") == outcome
        if number % 5 == 0:
            assert answer.classification.label == golden[number % len(golden)].label
        elif number % 5 == 1:
            assert len(answer.classifications.probabilities) == number + 1
        else:
            assert answer.error.code == grpc.StatusCode.INVALID_ARGUMENT.value[0]


def test_a_batchs_error_names_row_and_feature_over_the_wire(
    stub: PredictionServiceStub, golden: list[Any]
) -> None:
    rows = _rows(golden, 5_000)
    rows[4_321, 29] = np.nan
    with pytest.raises(grpc.RpcError) as caught:
        stub.PredictBatch(PredictBatchRequest(model="fraud", matrix=_matrix(rows)), timeout=_TIMEOUT)
    failure = failure_of(caught.value)
    assert failure.code is grpc.StatusCode.INVALID_ARGUMENT
    assert failure.message == "row 4321: Amount: missing, and the model has no rule for that"
    assert [violation.field for violation in failure.violations] == ["rows[4321].Amount"]


def test_the_most_rows_are_told_by_model_service_and_by_the_error(
    channel: grpc.Channel, stub: PredictionServiceStub
) -> None:
    model = ModelServiceStub(channel).GetModel(GetModelRequest(model="fraud"), timeout=_TIMEOUT).model
    assert model.max_batch_rows == 10_000
    request = PredictBatchRequest(model="fraud", matrix=_matrix(np.zeros((10_001, 30))))
    with pytest.raises(grpc.RpcError) as caught:
        stub.PredictBatch(request, timeout=_TIMEOUT)
    assert "10000 are the most" in caught.value.details()


def test_rows_in_flight_are_bounded_and_health_and_single_rows_are_not(
    start_server: Callable[..., Any],
    connect: Callable[..., Any],
    health_of: Callable[..., Any],
    fraud_bundle: Path,
    golden: list[Any],
) -> None:
    process = start_server(
        fraud_bundle.parents[1], "--max-batch-rows", "10000", "--max-rows-in-flight", "10000"
    )
    batch = PredictBatchRequest(model="fraud", matrix=_matrix(_rows(golden, 10_000)))
    one = PredictRequest(model="fraud", vector=Vector(values=golden[0].values))
    with connect(process.target) as channel:
        stub = PredictionServiceStub(channel)
        refused = []
        for _ in range(20):
            futures = [stub.PredictBatch.future(batch, timeout=_TIMEOUT) for _ in range(6)]
            assert stub.Predict(one, timeout=_TIMEOUT).classification.label == golden[0].label
            assert health_of(process.target)[""] == "SERVING"
            for future in futures:
                if future.code() is grpc.StatusCode.OK:
                    assert len(future.result().classifications.probabilities) == 10_000
                else:
                    refused.append(future)
            if refused and any(future.code() is grpc.StatusCode.OK for future in futures):
                break
        error = refused[0]
        assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert "10000 may be" in error.details()
        trailers = dict(error.trailing_metadata())
        status = status_pb2.Status.FromString(trailers["grpc-status-details-bin"])
        retry = error_details_pb2.RetryInfo()
        assert status.details[0].Unpack(retry)
        assert int(trailers["grpc-retry-pushback-ms"]) == retry.retry_delay.ToMilliseconds() > 0
        # All that was taken has been given back.
        assert stub.PredictBatch(batch, timeout=_TIMEOUT).model == "fraud"
    assert process.stop() == 0
    assert "Traceback" not in "".join(process.log)


def test_batches_whose_callers_have_gone_make_room_for_others(
    start_server: Callable[..., Any], connect: Callable[..., Any], fraud_bundle: Path, golden: list[Any]
) -> None:
    process = start_server(
        fraud_bundle.parents[1], "--max-batch-rows", "10000", "--max-rows-in-flight", "100000"
    )
    batch = PredictBatchRequest(model="fraud", matrix=_matrix(_rows(golden, 10_000)))
    with connect(process.target) as channel:
        stub = PredictionServiceStub(channel)
        for _ in range(5):
            futures = [stub.PredictBatch.future(batch, timeout=_TIMEOUT) for _ in range(8)]
            futures += [stub.PredictBatch.future(batch, timeout=0.05) for _ in range(2)]
            time.sleep(0.05)
            for future in futures:
                future.cancel()
        deadline = time.monotonic() + _TIMEOUT
        # Ten at once are only taken when all others have gone.
        while True:
            futures = [stub.PredictBatch.future(batch, timeout=_TIMEOUT) for _ in range(10)]
            codes = {future.code() for future in futures}
            if codes == {grpc.StatusCode.OK}:
                break
            assert codes <= {grpc.StatusCode.OK, grpc.StatusCode.RESOURCE_EXHAUSTED}
            assert time.monotonic() < deadline
    assert process.stop() == 0
    assert "Traceback" not in "".join(process.log)


# Clients that do not read.


def _resident(process: Any) -> int:
    status = Path(f"/proc/{process.process.pid}/status").read_text()
    found = re.search(r"VmRSS:\s+(\d+) kB", status)
    assert found
    return int(found[1])


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="this system has no /proc")
@pytest.mark.parametrize("rows", [1, 200])
def test_a_client_that_does_not_read_is_not_read_from_and_the_servers_memory_does_not_grow(
    start_server: Callable[..., Any],
    connect: Callable[..., Any],
    fraud_bundle: Path,
    golden: list[Any],
    rows: int,
) -> None:
    process = start_server(fraud_bundle.parents[1], "--max-connection-age-grace", "60")
    fields: dict[str, Any] = (
        {"vector": Vector(values=golden[0].values)} if rows == 1 else {"matrix": _matrix(_rows(golden, rows))}
    )
    # An answer of 60 kB soon fills what a connection buffers.
    request = PredictStreamRequest(model="fraud", request_id="x" * 60_000, **fields)
    sent = [0] * _STREAMS
    done = threading.Event()

    def requests(stream: int) -> Iterator[PredictStreamRequest]:
        while not done.is_set():
            sent[stream] += 1
            yield request

    with connect(process.target) as channel:
        stub = PredictionServiceStub(channel)
        calls = [stub.PredictStream(requests(stream), timeout=120) for stream in range(_STREAMS)]
        for call in calls:
            assert next(call).request_id == request.request_id
        sizes: list[int] = []
        counts: list[int] = []
        deadline = time.monotonic() + 2 * _TIMEOUT
        # Until nothing has been taken from any client for some seconds.
        while len(counts) < 12 or counts[-1] != counts[-12]:
            time.sleep(0.25)
            counts.append(sum(sent))
            sizes.append(_resident(process))
            assert time.monotonic() < deadline, counts
        assert counts[-1] < _STREAMS * 1_000
        settled = sizes[-1]
        assert settled - sizes[-12] < 2 * _MIB
        # What was held back comes when they read.
        for call in calls:
            for answer in itertools.islice(call, counts[-1] // _STREAMS):
                assert answer.request_id == request.request_id
        assert sum(sent) > counts[-1]
        grown = _resident(process) - settled
        done.set()
        for call in calls:
            call.cancel()
    assert grown < 16 * _MIB, f"{grown} KiB"
    assert max(sizes) < 120 * _MIB
    assert process.stop() == 0
    assert "Traceback" not in "".join(process.log)


# How streams end.

_LIFE = ("--max-connection-age", "1", "--max-connection-age-grace", "2", "--drain-timeout", "2.5")


def _score_by_streams(stub: PredictionServiceStub, rows: list[list[float]]) -> tuple[list[Any], list[str]]:
    """Score rows by as many streams as it takes, as docs/api.md tells a client to; return the answers."""
    answers: list[Any] = []
    ends: list[str] = []
    while len(answers) < len(rows):
        first = len(answers)

        def requests(first: int = first) -> Iterator[PredictStreamRequest]:
            for number in range(first, len(rows)):
                yield PredictStreamRequest(
                    model="fraud", vector=Vector(values=rows[number]), request_id=str(number)
                )
                time.sleep(0.001)

        try:
            for answer in stub.PredictStream(requests(), timeout=_TIMEOUT, wait_for_ready=True):
                answers.append(answer)
        except grpc.RpcError as error:
            if error.code() is not _UNAVAILABLE or len(ends) == 100:
                raise
            ends.append(error.details())
    return answers, ends


def test_streams_end_before_their_connection_does_and_no_row_is_lost_or_scored_twice(
    start_server: Callable[..., Any], connect: Callable[..., Any], fraud_bundle: Path, golden: list[Any]
) -> None:
    process = start_server(fraud_bundle.parents[1], *_LIFE)
    rows = [golden[number % len(golden)].values for number in range(2_000)]
    with connect(process.target) as channel:
        answers, ends = _score_by_streams(PredictionServiceStub(channel), rows)
    assert [answer.request_id for answer in answers] == [str(number) for number in range(2_000)]
    assert [answer.classification.label for answer in answers] == [
        golden[number % len(golden)].label for number in range(2_000)
    ]
    # The server itself ends them. On a machine that stands still for half a second a connection may be first.
    assert ends.count("the stream has come of age: open another, and send again what was not answered") >= 1
    assert process.stop() == 0


def test_a_server_that_is_told_to_stop_ends_streams_and_answers_what_is_in_hand(
    start_server: Callable[..., Any], connect: Callable[..., Any], fraud_bundle: Path, golden: list[Any]
) -> None:
    process = start_server(
        fraud_bundle.parents[1], "--max-connection-age", "1", "--drain-timeout", "1.5", "--stop-grace", "20"
    )
    one = PredictStreamRequest(model="fraud", vector=Vector(values=golden[0].values))
    over = threading.Event()

    def requests() -> Iterator[PredictStreamRequest]:
        yield one
        # It is the server that ends the stream, not the client.
        over.wait(2 * _TIMEOUT)

    batch = PredictBatchRequest(model="fraud", matrix=_matrix(_rows(golden, 10_000)))
    with connect(process.target) as idle, connect(process.target) as busy, ThreadPoolExecutor(2) as pool:
        call = PredictionServiceStub(idle).PredictStream(requests(), timeout=60)
        assert next(call).classification.label == golden[0].label
        ended = pool.submit(process.stop)
        codes = []
        predict_batch = PredictionServiceStub(busy).PredictBatch
        while not ended.done():
            try:
                answer = predict_batch(batch, timeout=_TIMEOUT)
                assert len(answer.classifications.probabilities) == 10_000
            except grpc.RpcError as error:
                codes.append(error.code())
        with pytest.raises(grpc.RpcError) as caught:
            next(call)
        over.set()
        assert ended.result() == 0
    assert caught.value.code() is _UNAVAILABLE
    assert caught.value.details() in (
        "the server stops: call another",
        "the server is about to stop: call another",
        "the stream has come of age: open another, and send again what was not answered",
    )
    assert set(codes) <= {_UNAVAILABLE, grpc.StatusCode.CANCELLED}
    assert "Traceback" not in "".join(process.log)
