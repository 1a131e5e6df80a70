"""Records of calls that have ended."""

import logging
import math
import time

import pytest

from server.call import Call
from server.call_log import CallLog
from server.status import Code
from server.trace import Span

_TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
_METADATA = (("authorization", "Bearer secret"), ("traceparent", f"00-{_TRACE}-00f067aa0ba902b7-00"))


@pytest.fixture
def call() -> Call:
    call = Call(math.inf, _METADATA, lambda: "ipv4:192.0.2.7:4711")
    call.request_id, call.model, call.version = "payment-1" + "x" * 500, "fraud", "1.0.0"
    call.caller = "card-authorisation"
    return call


def _end(log: CallLog, call: Call, code: int, *, span: Span | None = None, unary: bool = True) -> None:
    log.ended("forest.v1.PredictionService/Predict", call, code, 1_234_567, span, unary=unary)


def test_a_record_tells_of_the_call_and_nothing_in_it(call: Call, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    _end(CallLog(), call, Code.NOT_FOUND)
    (record,) = caplog.records
    assert record.getMessage() == "call ended"
    assert record.fields == {
        "method": "forest.v1.PredictionService/Predict",
        "code": "NOT_FOUND",
        "trace_id": _TRACE,
        "request_id": "payment-1" + "x" * 119,
        "model": "fraud",
        "version": "1.0.0",
        "caller": "card-authorisation",
        "peer": "ipv4:192.0.2.7:4711",
        "milliseconds": 1.235,
    }
    caplog.clear()
    _end(CallLog(), call, Code.INTERNAL, span=Span("1" * 32, "2" * 16, True))
    (record,) = caplog.records
    assert (record.fields["trace_id"], record.fields["span_id"]) == ("1" * 32, "2" * 16)


@pytest.mark.parametrize(
    ("code", "level"),
    [
        (Code.OK, logging.DEBUG),
        (Code.INVALID_ARGUMENT, logging.INFO),
        (Code.UNAUTHENTICATED, logging.INFO),
        (Code.CANCELLED, logging.INFO),
        (Code.DEADLINE_EXCEEDED, logging.WARNING),
        (Code.RESOURCE_EXHAUSTED, logging.WARNING),
        (Code.UNAVAILABLE, logging.WARNING),
        (Code.INTERNAL, logging.ERROR),
        # None of this server's own.
        (2, logging.INFO),
    ],
)
def test_a_level_is_its_codes(call: Call, caplog: pytest.LogCaptureFixture, code: int, level: int) -> None:
    caplog.set_level(level + 1)
    log = CallLog()
    _end(log, call, code)
    assert not caplog.records
    caplog.set_level(level)
    _end(log, call, code)
    assert [record.levelno for record in caplog.records] == [level]


def test_a_stream_that_comes_of_age_is_no_warning(call: Call, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    _end(CallLog(), call, Code.UNAVAILABLE, unary=False)
    assert [record.levelno for record in caplog.records] == [logging.INFO]


@pytest.mark.parametrize("code", [Code.CANCELLED, Code.UNAVAILABLE])
def test_a_watch_of_health_that_is_over_is_told_of_at_debug_alone(
    call: Call, caplog: pytest.LogCaptureFixture, code: int
) -> None:
    caplog.set_level(logging.INFO)
    CallLog().ended("grpc.health.v1.Health/Watch", call, code, 10**10, None, unary=False)
    assert not caplog.records
    CallLog().ended("grpc.health.v1.Health/Watch", call, Code.INTERNAL, 10**10, None, unary=False)
    caplog.set_level(logging.DEBUG)
    CallLog().ended("grpc.health.v1.Health/Watch", call, code, 10**10, None, unary=False)
    assert [record.levelno for record in caplog.records] == [logging.ERROR, logging.DEBUG]


def test_a_storm_is_counted_and_told_when_it_is_over(call: Call, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    log = CallLog(most=3, seconds=0.5)
    for _ in range(1000):
        _end(log, call, Code.UNAVAILABLE)
    for _ in range(5):
        _end(log, call, Code.NOT_FOUND)
    _end(log, call, Code.DEADLINE_EXCEEDED)
    warnings = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert len(warnings) == len(caplog.records) - len(warnings) == 3
    caplog.clear()
    deadline = time.monotonic() + 10
    while len(caplog.records) < 3:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert sorted((record.levelno, *record.fields.values()) for record in caplog.records) == [
        (logging.INFO, "NOT_FOUND", 2),
        (logging.WARNING, "DEADLINE_EXCEEDED", 1),
        (logging.WARNING, "UNAVAILABLE", 997),
    ]
    # And each has room again.
    _end(log, call, Code.UNAVAILABLE)
    assert caplog.records[-1].getMessage() == "call ended"


def test_what_was_left_out_is_told_at_the_end_too(call: Call, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    log = CallLog(most=1, seconds=60)
    for _ in range(3):
        _end(log, call, Code.UNAVAILABLE)
    log.close()
    log.close()
    assert [record.fields.get("calls") for record in caplog.records] == [None, 2]
