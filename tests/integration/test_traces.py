"""Spans of a real server's calls, as a real collector's service receives them."""

import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest
from forest.v1.prediction_service_pb2 import PredictBatchRequest, PredictRequest, Vector
from forest.v1.prediction_service_pb2_grpc import PredictionServiceStub
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2_grpc import (
    TraceServiceServicer,
    add_TraceServiceServicer_to_server,
)
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from server import config, trace

_SERVICE = "forest.v1.PredictionService"
_TRACE, _SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
_REQUEST = PredictRequest(model="fraud", request_id="payment-1", vector=Vector(values=[0.0] * 30))
_PHASES = ["wait", "decode", "run", "encode"]
# None of this is to be obeyed.
_SURPRISES = {
    "OTEL_SDK_DISABLED": "true",
    "OTEL_SERVICE_NAME": "another",
    "OTEL_RESOURCE_ATTRIBUTES": "team=another",
    "OTEL_TRACES_SAMPLER": "always_off",
    "OTEL_EXPORTER_OTLP_HEADERS": "authorization=secret",
    "OTEL_EXPORTER_OTLP_TRACES_COMPRESSION": "nonsense",
    "OTEL_BSP_SCHEDULE_DELAY": "3600000",
    "OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT": "1",
    "OTEL_PYTHON_CONTEXT": "nonsense",
    "OTEL_PROPAGATORS": "nonsense",
}


class Collector(TraceServiceServicer):
    """An OpenTelemetry collector's service, which keeps what it gets."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.requests: list[ExportTraceServiceRequest] = []
        self.metadata: list[str] = []
        self.server = grpc.server(ThreadPoolExecutor(2))
        add_TraceServiceServicer_to_server(self, self.server)
        self.endpoint = f"http://localhost:{self.server.add_insecure_port('localhost:0')}"
        self.server.start()

    def Export(self, request: Any, context: Any) -> ExportTraceServiceResponse:  # noqa: N802
        """Keep what comes."""
        with self._lock:
            self.requests.append(request)
            self.metadata += [name for name, _ in context.invocation_metadata()]
        return ExportTraceServiceResponse()

    def spans(self) -> list[Span]:
        """Return every span so far."""
        with self._lock:
            found = [resource for each in self.requests for resource in each.resource_spans]
        return [span for resource in found for scope in resource.scope_spans for span in scope.spans]

    def resources(self) -> list[dict[str, str]]:
        """Return who has sent spans so far."""
        with self._lock:
            found = [resource.resource for each in self.requests for resource in each.resource_spans]
        return [_values(resource) for resource in found]


@pytest.fixture
def collector() -> Iterator[Collector]:
    running = Collector()
    yield running
    running.server.stop(0).wait()


def _values(told: Any) -> dict[str, Any]:
    """Return attributes as a dictionary."""
    return {each.key: getattr(each.value, each.value.WhichOneof("value")) for each in told.attributes}


def _parent(sampled: bool) -> tuple[tuple[str, str], ...]:
    return ("traceparent", f"00-{_TRACE}-{_SPAN}-0{int(sampled)}"), ("tracestate", "bank=1,other=2")


def test_a_call_joins_its_callers_trace_if_that_is_recorded(
    start_server: Callable[..., Any], fraud_bundle: Path, collector: Collector, connect: Callable[..., Any]
) -> None:
    flags = ("--traces-endpoint", collector.endpoint, "--traces-ratio", "0")
    process = start_server(fraud_bundle.parents[1], *flags, environment=_SURPRISES)
    with connect(process.target) as channel:
        predict = PredictionServiceStub(channel).Predict
        predict(_REQUEST, timeout=10)
        predict(_REQUEST, timeout=10, metadata=_parent(sampled=False))
        before = time.time_ns()
        predict(_REQUEST, timeout=10, metadata=_parent(sampled=True))
    assert process.stop() == 0
    after = time.time_ns()
    spans = {span.name: span for span in collector.spans()}
    assert len(spans) == len(collector.spans()) == 5
    span = spans.pop(f"{_SERVICE}/Predict")
    assert span.kind == Span.SPAN_KIND_SERVER
    assert (span.trace_id.hex(), span.parent_span_id.hex()) == (_TRACE, _SPAN)
    assert span.trace_state == "bank=1,other=2"
    assert span.status.code == Status.STATUS_CODE_UNSET
    assert _values(span) == {
        "rpc.system": "grpc",
        "rpc.service": _SERVICE,
        "rpc.method": "Predict",
        "rpc.grpc.status_code": 0,
        "forest.model": "fraud",
        "forest.version": "1.0.0",
        "forest.request_id": "payment-1",
    }
    # Clocks of one machine.
    assert before <= span.start_time_unix_nano < span.end_time_unix_nano <= after
    time_of = span.start_time_unix_nano
    for phase in _PHASES:
        child = spans[phase]
        assert (child.trace_id, child.parent_span_id) == (span.trace_id, span.span_id)
        assert child.kind == Span.SPAN_KIND_INTERNAL
        assert time_of <= child.start_time_unix_nano <= child.end_time_unix_nano
        time_of = child.end_time_unix_nano
    assert time_of <= span.end_time_unix_nano
    assert len({each.span_id for each in (span, *spans.values())}) == 5
    (resource,) = collector.resources()
    assert resource.pop("service.instance.id").endswith(f"-{process.process.pid}")
    assert resource.pop("service.version")
    assert resource == {"service.name": "forest-serving"}
    assert "authorization" not in collector.metadata
    assert sum("ignored: OTEL_BSP_SCHEDULE_DELAY, " in line for line in process.log) == 1


def test_of_calls_without_a_trace_a_share_is_traced_by_each_worker(
    start_server: Callable[..., Any], fraud_bundle: Path, collector: Collector, connect: Callable[..., Any]
) -> None:
    flags = ("--workers", "2", "--traces-endpoint", collector.endpoint, "--traces-ratio", "1")
    process = start_server(fraud_bundle.parents[1], *flags)
    process.wait_for("worker 2: SERVING on port")
    calls = 0
    while len({resource["service.instance.id"] for resource in collector.resources()}) < 2:
        assert calls < 400
        with connect(process.target) as channel:
            stub = PredictionServiceStub(channel)
            stub.Predict(_REQUEST, timeout=10)
            rows = PredictBatchRequest(model="fraud", request_id="batch-1")
            rows.matrix.rows, rows.matrix.columns, rows.matrix.data = 2, 30, bytes(240)
            stub.PredictBatch(rows, timeout=10)
            with pytest.raises(grpc.RpcError):
                stub.Predict(PredictRequest(model="none"), timeout=10)
            assert len(list(stub.PredictStream(iter([_REQUEST] * 3), timeout=10))) == 3
            calls += 4
            time.sleep(0.05)
    assert process.stop() == 0
    spans = collector.spans()
    servers = [span for span in spans if span.kind == Span.SPAN_KIND_SERVER]
    assert len(servers) == calls
    assert len({span.trace_id for span in servers}) == len({span.span_id for span in servers}) == calls
    assert not any(span.parent_span_id for span in servers)
    children: dict[bytes, list[str]] = {span.span_id: [] for span in servers}
    traces = {span.span_id: span.trace_id for span in servers}
    for span in spans:
        if span.kind != Span.SPAN_KIND_SERVER:
            children[span.parent_span_id].append(span.name)
            assert span.trace_id == traces[span.parent_span_id]
    for span in servers:
        told = _values(span)
        code, phases = told["rpc.grpc.status_code"], children[span.span_id]
        if code:
            assert (code, span.status.code) == (5, Status.STATUS_CODE_UNSET)
            assert "run" not in phases
        else:
            assert phases == ([] if told["rpc.method"] == "PredictStream" else _PHASES)


@pytest.mark.parametrize(
    ("given", "place"),
    [
        ("http://localhost", "http://localhost:4317"),
        ("https://collector.example", "https://collector.example:4317"),
        ("http://[::1]", "http://[::1]:4317"),
        ("http://[::1]:1", "http://[::1]:1"),
    ],
)
def test_a_collectors_port_is_that_of_the_protocol_unless_another_is_said(
    caplog: pytest.LogCaptureFixture, given: str, place: str
) -> None:
    caplog.set_level("INFO")
    settings = config.read(["--traces-endpoint", given], {})
    trace.begin(settings.traces_endpoint, 0).stop()
    assert f"traces go to {place}\n" in caplog.text


@pytest.mark.parametrize("away", ["nobody listens", "nobody answers"])
def test_a_collector_that_is_away_costs_no_call_and_no_end(
    start_server: Callable[..., Any], fraud_bundle: Path, connect: Callable[..., Any], away: str
) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        if away == "nobody answers":
            silent.listen()
        endpoint = f"http://127.0.0.1:{silent.getsockname()[1]}"
        process = start_server(
            fraud_bundle.parents[1], "--traces-endpoint", endpoint, "--traces-ratio", "1", "--log-format=json"
        )
        with connect(process.target) as channel:
            predict = PredictionServiceStub(channel).Predict
            # Five spans each: more than may wait.
            for _ in range(1000):
                predict(_REQUEST, timeout=5)
        assert process.stop(seconds=30) == 0
    log = "".join(process.log)
    assert log.count('"message": "spans are not sent: ') == 1
    assert '"logger": "opentelemetry' not in log
    assert "Traceback" not in log


def test_nothing_is_sent_unasked(
    start_server: Callable[..., Any], fraud_bundle: Path, collector: Collector, connect: Callable[..., Any]
) -> None:
    asked = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.endpoint, "OTEL_TRACES_EXPORTER": "otlp"}
    process = start_server(fraud_bundle.parents[1], environment=asked)
    with connect(process.target) as channel:
        PredictionServiceStub(channel).Predict(_REQUEST, timeout=10, metadata=_parent(sampled=True))
    assert process.stop() == 0
    assert not collector.requests


@pytest.mark.parametrize("workers", ["1", "2"])
def test_without_the_extra_the_start_says_what_to_install(fraud_bundle: Path, workers: str) -> None:
    script = (
        "import sys; sys.modules['opentelemetry'] = None; import server.__main__ as main; "
        f"sys.argv[1:] = {['--models', str(fraud_bundle.parents[1]), '--port=0', '--health-port=0']} + "
        f"['--workers={workers}', '--traces-endpoint=http://localhost:1']; sys.exit(main.main())"
    )
    ran = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False
    )
    assert ran.returncode == 1
    assert ran.stderr.count("install the extra `traces`, as forest-serving[traces]\n") == 1
    assert "Traceback" not in ran.stderr
