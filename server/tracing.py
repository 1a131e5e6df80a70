"""Spans of calls and of their phases, sent to an OpenTelemetry collector by OTLP over gRPC.

Whether a call is traced is its caller's to say; of calls without a trace a share is. Spans are made when a
call has ended, from its marks, and a thread of their own sends them: a call that is not traced costs a look
at its metadata. Names and attributes are those of OpenTelemetry's semantic conventions for gRPC. The
libraries are an extra, so `server.trace.begin` imports this, and nothing else does.
"""

import logging
import math
import os
import random
import re
import threading
import time

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import ALWAYS_ON
from opentelemetry.trace import (
    NonRecordingSpan,
    SpanContext,
    SpanKind,
    StatusCode,
    TraceFlags,
    TraceState,
    format_span_id,
    format_trace_id,
    set_span_in_context,
)

from server import VERSION
from server.call import Call
from server.health import Health
from server.status import Code
from server.trace import Span, parent

_log = logging.getLogger(__name__)

# What a server answers for. Of other failures a span says the code, and they are no errors of this side.
_ERRORS = (Code.DEADLINE_EXCEEDED, Code.UNIMPLEMENTED, Code.INTERNAL, Code.UNAVAILABLE)
# A caller's own names are told so far.
_CHARACTERS = 128
# Spans that wait to be sent, and of one request. Those that come while so many wait push out the oldest.
_MOST_WAITING, _MOST_AT_ONCE = 4096, 512
_EVERY_MS = 1000.0
# Seconds that a request may take, its repetitions included; and that the end may.
_SENDING, _STOPPING = 5.0, 2.0
# What OpenTelemetry says of a collector that is away, or of a caller's bad `tracestate`, is told so often, in
# seconds.
_TELLING = 60.0


class Tracing:
    """Makes spans of calls, and sends them.

    Parameters
    ----------
    endpoint, ratio
        As of `server.trace.begin`.
    """

    def __init__(self, endpoint: str, ratio: float):
        self._ratio = ratio
        # OTLP's own port, by its specification; gRPC would take 443.
        if not re.search(r":\d+$", endpoint):
            endpoint += ":4317"
        self._exporter = OTLPSpanExporter(endpoint, insecure=endpoint.startswith("http:"), timeout=_SENDING)
        self._processor = BatchSpanProcessor(self._exporter, _MOST_WAITING, _EVERY_MS, _MOST_AT_ONCE)
        resource = Resource(
            {
                "service.name": "forest-serving",
                "service.version": VERSION,
                "service.instance.id": f"{os.uname().nodename}-{os.getpid()}",
            }
        )
        # It stays this object's: nothing else in the process traces unasked.
        provider = TracerProvider(ALWAYS_ON, resource, shutdown_on_exit=False)
        provider.add_span_processor(self._processor)
        self._tracer = provider.get_tracer("forest-serving", VERSION)
        lost, left_out = _Seldom("spans are not sent"), _Seldom("a caller's tracestate is left out")
        for name, told in (
            ("exporter.otlp.proto.grpc.exporter", lost),
            ("sdk._shared_internal", lost),
            ("trace.span", left_out),
        ):
            logging.getLogger(f"opentelemetry.{name}").addFilter(told)
        _log.info("traces go to %s", endpoint)

    def ended(self, method: str, call: Call, code: int, end: int, *, unary: bool) -> Span | None:
        """Make the spans of a call that has ended, if it is traced.

        Parameters
        ----------
        method
            Which was called, as ``package.Service/Method``.
        call
            The call, with its marks.
        code
            Its status.
        end
            When it ended, in ns of `time.perf_counter_ns`.
        unary
            Whether its marks are those of the whole call, and not those of the newest of its messages.

        Returns
        -------
        Span or None
            The call's; None if it is not traced.
        """
        service, _, name = method.partition("/")
        caller = parent(call.metadata)
        if caller:
            if not caller.sampled:
                return None
        # Probes would be most of what an idle server has to tell.
        elif service == Health.name or random.random() >= self._ratio:  # noqa: S311 - no secret
            return None
        # That of this moment: the system's clock is put right now and then.
        epoch = time.time_ns() - time.perf_counter_ns()
        span = self._tracer.start_span(
            method,
            _context(caller, call) if caller else Context(),
            SpanKind.SERVER,
            _attributes(service, name, call, code),
            start_time=epoch + call.opened,
        )
        if code in _ERRORS:
            span.set_status(StatusCode.ERROR)
        within = set_span_in_context(span, Context())
        begin = call.arrived
        marks = (call.begun, call.decoded, call.scored, call.finished) if unary else ()
        for phase, mark in zip(("wait", "decode", "run", "encode"), marks, strict=False):
            if not mark:
                break
            self._tracer.start_span(phase, within, start_time=epoch + begin).end(epoch + mark)
            begin = mark
        span.end(epoch + end)
        context = span.get_span_context()
        return Span(format_trace_id(context.trace_id), format_span_id(context.span_id), sampled=True)

    def stop(self) -> None:
        """Send what waits to be sent. A collector that is away holds the end up for some seconds at most."""
        stopping = threading.Thread(target=self._processor.shutdown, name="end of traces", daemon=True)
        stopping.start()
        stopping.join(_STOPPING)
        if stopping.is_alive():
            self._exporter.shutdown()
            stopping.join(_STOPPING)


def _context(caller: Span, call: Call) -> Context:
    states = [value for name, value in call.metadata if name == "tracestate" and isinstance(value, str)]
    above = SpanContext(
        int(caller.trace_id, 16),
        int(caller.span_id, 16),
        is_remote=True,
        trace_flags=TraceFlags(TraceFlags.SAMPLED),
        trace_state=TraceState.from_header(states),
    )
    return set_span_in_context(NonRecordingSpan(above), Context())


def _attributes(service: str, method: str, call: Call, code: int) -> dict[str, str | int]:
    attributes: dict[str, str | int] = {
        "rpc.system": "grpc",
        "rpc.service": service,
        "rpc.method": method,
        "rpc.grpc.status_code": int(code),
    }
    for name, value in (
        ("forest.model", call.model),
        ("forest.version", call.version),
        ("forest.caller", call.caller),
        ("forest.request_id", call.request_id[:_CHARACTERS]),
    ):
        if value:
            attributes[name] = value
    return attributes


class _Seldom(logging.Filter):
    """Tells in one line of ours, once in a while, what OpenTelemetry says of each try and of each call.

    A collector may be away for a night, and a caller bad at it.

    Parameters
    ----------
    what
        What has come of it.
    """

    def __init__(self, what: str) -> None:
        super().__init__()
        self._what = what
        self._told = -math.inf

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether a record may be written as it is."""
        if record.levelno < logging.WARNING:
            return True
        now = time.monotonic()
        if now >= self._told + _TELLING:
            self._told = now
            _log.warning("%s: %s", self._what, record.getMessage(), exc_info=record.exc_info)
        return False
