"""The log of a real server."""

import json
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
from forest.v1.prediction_service_pb2 import PredictRequest, Vector
from forest.v1.prediction_service_pb2_grpc import PredictionServiceStub

_TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
_VALUES = [12345.678] + [0.0] * 29
_REQUEST = PredictRequest(model="fraud", request_id="payment-1", vector=Vector(values=_VALUES))


def _records(process: Any) -> list[dict[str, Any]]:
    """Return every record so far: each line is one."""
    return [json.loads(line) for line in tuple(process.log)]


def _refused(channel: grpc.Channel, request: PredictRequest, *metadata: Any) -> grpc.StatusCode:
    with pytest.raises(grpc.RpcError) as caught:
        PredictionServiceStub(channel).Predict(request, timeout=10, metadata=metadata)
    code: grpc.StatusCode = caught.value.code()  # type: ignore[attr-defined]
    return code


@pytest.mark.parametrize("form", ["json", "text"])
def test_no_token_and_no_value_is_told(
    start_server: Callable[..., Any],
    fraud_bundle: Path,
    connect: Callable[..., Any],
    tmp_path: Path,
    form: str,
) -> None:
    policy = tmp_path / "policy.toml"
    token, digest = "a-long-secret", "6bc331e6aaa372aed5d2f4ae6e3c34bbd3e78c0a9d4ebc37bc8fdb28e14c3a5f"
    policy.write_text(f'[callers.other]\nmodels = ["*"]\ntokens = ["sha256:{digest}"]\n')
    flags = ("--access-policy", str(policy), "--plaintext-tokens", "on", "--log-level", "debug")
    process = start_server(fraud_bundle.parents[1], *flags, "--log-format", form)
    with connect(process.target) as channel:
        request = PredictRequest(model="fraud", vector=Vector(values=_VALUES))
        for name in ("authorization", "token-bin", "traceparent"):
            value = f"Bearer {token}"
            metadata = (name, value.encode() if name == "token-bin" else value)
            assert _refused(channel, request, metadata) is grpc.StatusCode.UNAUTHENTICATED
    assert process.stop() == 0
    told = "".join(process.log)
    assert told.count("UNAUTHENTICATED") == 3
    for secret in (token, digest, "12345"):
        assert secret not in told


def test_a_caller_forges_no_line(
    start_server: Callable[..., Any], fraud_bundle: Path, connect: Callable[..., Any]
) -> None:
    forged = 'a\n2026-01-01T00:00:00.000000Z ERROR server: forged\r\n{"level": "error"}\x1b[2J\u2028'
    request = PredictRequest(model=forged, request_id=forged, vector=Vector(values=_VALUES))
    for form in ("json", "text"):
        process = start_server(fraud_bundle.parents[1], "--log-format", form)
        with connect(process.target) as channel:
            parent = ("traceparent", f"00-{_TRACE}-00f067aa0ba902b7-01")
            assert _refused(channel, request, parent) is grpc.StatusCode.NOT_FOUND
        assert process.stop() == 0
        if form == "json":
            (told,) = [each for each in _records(process) if each["logger"] == "server.call_log"]
            assert abs(datetime.now(UTC) - datetime.fromisoformat(told.pop("time"))) < timedelta(minutes=1)
            assert told.pop("milliseconds") > 0
            assert told.pop("peer").startswith("ipv")
            assert told == {
                "level": "info",
                "logger": "server.call_log",
                "message": "call ended",
                "method": "forest.v1.PredictionService/Predict",
                "code": "NOT_FOUND",
                "request_id": forged,
                "trace_id": _TRACE,
            }
        else:
            starts = [line.split()[:2] for line in process.log]
            assert all(datetime.fromisoformat(time).tzinfo and level == "INFO" for time, level in starts)


def test_a_storm_of_refusals_is_told_of_and_does_not_flood(
    start_server: Callable[..., Any], fraud_bundle: Path, connect: Callable[..., Any]
) -> None:
    process = start_server(fraud_bundle.parents[1], "--log-format", "json")
    with connect(process.target) as channel:
        predict = PredictionServiceStub(channel).Predict
        request = PredictRequest(model="none", vector=Vector(values=_VALUES))
        calls = [predict.future(request, timeout=20) for _ in range(900)]
        codes = {call.code(): call.details() for call in calls}
        assert codes.keys() == {grpc.StatusCode.NOT_FOUND}, codes
    assert process.stop() == 0
    told = [each for each in _records(process) if each["logger"] == "server.call_log"]
    left_out = [each["calls"] for each in told if "calls" in each]
    assert left_out
    assert sum(left_out) + len(told) - len(left_out) == 900
    assert len(told) <= 11 * (len(left_out) + 1)


def test_the_level_changes_while_workers_run(
    start_server: Callable[..., Any], fraud_bundle: Path, connect: Callable[..., Any], tmp_path: Path
) -> None:
    file = tmp_path / "level"
    file.write_text("info\n")
    flags = ("--workers", "2", "--log-format", "json", "--log-level-file", str(file))
    process = start_server(fraud_bundle.parents[1], *flags)

    def call_until(true: Callable[[list[dict[str, Any]]], bool]) -> None:
        deadline = time.monotonic() + 20
        while not true(_records(process)):
            assert time.monotonic() < deadline, process.log
            with connect(process.target) as channel:
                PredictionServiceStub(channel).Predict(_REQUEST, timeout=10)
            time.sleep(0.02)

    def changed(message: str) -> Callable[[list[dict[str, Any]]], bool]:
        # The supervisor has no number.
        return lambda told: (
            {each.get("worker") for each in told if each["message"].startswith(message)} == {None, 1, 2}
        )

    call_until(lambda told: sum(each["message"].startswith("SERVING") for each in told) == 2)
    assert not any(each["message"] == "call ended" for each in _records(process))
    file.write_text("debug\n")
    call_until(changed("the log level is debug; it was info"))
    call_until(lambda told: {each.get("worker") for each in told if each.get("code") == "OK"} == {1, 2})
    file.write_text("everything\n")
    call_until(changed("refused: the new log level: "))
    file.write_text("warning\n")
    call_until(changed("the log level is warning; it was debug"))
    count = len(process.log)
    with connect(process.target) as channel:
        PredictionServiceStub(channel).Predict(_REQUEST, timeout=10)
    assert process.stop() == 0
    assert len(process.log) == count
