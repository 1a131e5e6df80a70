"""How the real process starts, leaves, drains and ends."""

import ctypes
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import grpc
import pytest
from forest.v1.prediction_service_pb2 import PredictRequest, PredictResponse, Vector
from forest.v1.prediction_service_pb2_grpc import PredictionServiceStub

_REQUEST = PredictRequest(model="fraud", vector=Vector(values=[0.0] * 30))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda number: number.name)
def test_without_clients_a_signal_ends_it_soon(
    start_server: Callable[..., Any], fraud_bundle: Path, number: signal.Signals
) -> None:
    # The drain could take 45 s.
    process = start_server(fraud_bundle.parents[1])
    assert process.stop(number, seconds=20) == 0
    log = "".join(process.log)
    assert log.index("STARTING") < log.index("SERVING on port") < log.index("DRAINING") < log.index("stopped")
    assert "LEAVING" not in log
    assert "Traceback" not in log


def test_a_client_without_health_checks_is_served_while_its_connection_lasts(
    start_server: Callable[..., Any], fraud_bundle: Path, connect: Callable[..., Any]
) -> None:
    process = start_server(
        fraud_bundle.parents[1], "--max-connection-age", "20", "--drain-timeout", "22", "--stop-grace", "1"
    )
    with connect(process.target) as channel:
        predict = PredictionServiceStub(channel).Predict
        predict(_REQUEST, timeout=10)
        process.process.send_signal(signal.SIGTERM)
        process.wait_for("DRAINING")
        for _ in range(300):
            assert predict(_REQUEST, timeout=10).HasField("classification")
        assert process.process.poll() is None
    # The client has gone; the drain could take 22 s.
    assert process.process.wait(15) == 0


def test_while_it_leaves_a_client_that_comes_back_is_served_and_knows_nothing(
    start_server: Callable[..., Any], fraud_bundle: Path, connect: Callable[..., Any]
) -> None:
    process = start_server(
        fraud_bundle.parents[1],
        *("--max-connection-age", "0.3", "--leave-timeout", "600", "--drain-timeout", "300"),
    )
    # Were it told of NOT_SERVING, its calls would fail: it knows no other server.
    config = {"loadBalancingConfig": [{"round_robin": {}}], "healthCheckConfig": {"serviceName": ""}}
    options = (("grpc.service_config", json.dumps(config)), ("grpc.enable_retries", 1))
    with connect(process.target, *options) as channel:
        predict = PredictionServiceStub(channel).Predict
        predict(_REQUEST, timeout=10)
        process.process.send_signal(signal.SIGTERM)
        process.wait_for("LEAVING")
        # For longer than nobody may be connected, and than several connections live.
        for _ in range(100):
            predict(_REQUEST, timeout=10)
            time.sleep(0.03)
        assert not any("DRAINING" in line for line in process.log)
    # The client has gone; leaving could take ten minutes, and the drain five.
    assert process.process.wait(30) == 0
    log = "".join(process.log)
    assert log.index(" SERVING on port") < log.index("LEAVING") < log.index("DRAINING") < log.index("stopped")


def test_a_client_that_will_not_go_is_refused_in_the_end(
    start_server: Callable[..., Any], fraud_bundle: Path, connect: Callable[..., Any]
) -> None:
    process = start_server(
        fraud_bundle.parents[1], "--max-connection-age", "0.5", "--drain-timeout", "1", "--stop-grace", "1"
    )
    codes: list[grpc.StatusCode] = []
    # It comes back whenever its connection has aged. A call that had not left it then goes to the next.
    with connect(
        process.target, ("grpc.initial_reconnect_backoff_ms", 50), ("grpc.enable_retries", 1)
    ) as channel:
        predict = PredictionServiceStub(channel).Predict
        predict(_REQUEST, timeout=10)
        process.process.send_signal(signal.SIGTERM)
        while process.process.poll() is None:
            codes.append(_code(predict))
    assert process.process.returncode == 0
    served = codes.index(grpc.StatusCode.UNAVAILABLE)
    assert served > 0
    assert set(codes[:served]) == {grpc.StatusCode.OK}
    # Calls that come in the instant in which the C core shuts down are CANCELLED: it knows no other way.
    assert set(codes[served:]) <= {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED}


def _code(predict: Any) -> grpc.StatusCode:
    try:
        predict(_REQUEST, timeout=10)
    except grpc.RpcError as error:
        code: grpc.StatusCode = error.code()
        return code
    return grpc.StatusCode.OK


def test_a_call_without_a_deadline_that_is_in_hand_is_finished(
    start_server: Callable[..., Any], fraud_bundle: Path, connect: Callable[..., Any]
) -> None:
    process = start_server(
        fraud_bundle.parents[1],
        *("--max-connection-age", "1", "--max-connection-age-grace", "20"),
        *("--drain-timeout", "20", "--stop-grace", "20"),
    )
    requests: SimpleQueue[bytes | None] = SimpleQueue()
    messages: Iterator[bytes] = iter(requests.get, None)
    with connect(process.target) as channel:
        # The call is there, its request is still under way.
        call = channel.stream_unary("/forest.v1.PredictionService/Predict").future(messages)
        PredictionServiceStub(channel).Predict(_REQUEST, timeout=10)
        process.process.send_signal(signal.SIGTERM)
        process.wait_for("DRAINING")
        # Longer than the connection may grow old.
        time.sleep(1.5)
        requests.put(_REQUEST.SerializeToString())
        requests.put(None)
        assert PredictResponse.FromString(call.result(timeout=20)).HasField("classification")
    assert process.process.wait(20) == 0


@pytest.mark.parametrize(("seconds", "state"), [("0", "DRAINING"), ("600", "LEAVING")])
def test_a_second_signal_ends_it_at_once(
    start_server: Callable[..., Any], fraud_bundle: Path, seconds: str, state: str
) -> None:
    process = start_server(fraud_bundle.parents[1], "--leave-timeout", seconds)
    with socket.create_connection(("localhost", int(process.target.rpartition(":")[2]))):
        process.process.send_signal(signal.SIGTERM)
        process.wait_for(state)
        assert process.stop(signal.SIGTERM, seconds=20) == 128 + signal.SIGTERM


def test_a_second_signal_ends_it_at_once_as_process_1_of_a_container(fraud_bundle: Path) -> None:
    space = ("unshare", "--user", "--map-root-user", "--pid", "--fork", "--kill-child")
    if not shutil.which("unshare") or subprocess.run([*space, "true"], check=False).returncode:
        pytest.skip("unshare makes no process namespace here")
    command = [*space, sys.executable, "-m", "server", "--models", str(fraud_bundle.parents[1])]
    with subprocess.Popen(
        [*command, "--port=0", "--health-port=0"], stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stderr is not None
            lines = iter(process.stderr.readline, "")
            port = next(
                match[1] for line in lines if (match := re.search(r"[^_]SERVING on port (\d+)", line))
            )
            server = int(Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text())
            with socket.create_connection(("localhost", int(port))):
                os.kill(server, signal.SIGTERM)
                assert any("DRAINING" in line for line in lines)
                os.kill(server, signal.SIGTERM)
                assert process.wait(20) == 128 + signal.SIGTERM
        finally:
            process.kill()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_while_it_starts_it_is_alive_and_a_signal_ends_it_before_it_ever_serves(
    copied: Path, health_of: Callable[..., Any]
) -> None:
    # Loading waits for whoever writes the manifest.
    manifest = copied / "manifest.json"
    manifest.unlink()
    os.mkfifo(manifest)
    command = [sys.executable, "-m", "server", "--models", str(copied.parents[1])]
    with subprocess.Popen(
        [*command, "--port=0", "--health-port=0"], stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stderr is not None
            port = re.search(r"STARTING: health on port (\d+)", process.stderr.readline())
            assert port
            with manifest.open("wb") as pipe:
                health = health_of(f"localhost:{port[1]}")
                assert health.pop("liveness") == "SERVING"
                assert set(health.values()) == {"NOT_SERVING"}
                assert {"startup", "readiness", ""} < set(health)
                process.send_signal(signal.SIGTERM)
                pipe.write(b"{")
            log = process.stderr.read()
            assert process.wait(20) == 0
        finally:
            process.kill()
    assert "SERVING on port" not in log
    assert "stopped" in log


@pytest.mark.parametrize("flag", ["--port", "--health-port"])
def test_a_port_that_is_taken_ends_it_with_the_reason(fraud_bundle: Path, flag: str) -> None:
    with socket.create_server(("localhost", 0)) as taken:
        port = taken.getsockname()[1]
        other = {"--port": "--health-port", "--health-port": "--port"}[flag]
        command = [sys.executable, "-m", "server", "--models", str(fraud_bundle.parents[1])]
        ran = subprocess.run(
            [*command, f"{flag}={port}", f"{other}=0"],
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
    assert ran.returncode == 1
    assert ran.stdout == ""
    # grpcio's own core may have told of it before, in its manner.
    *_, last = ran.stderr.splitlines()
    assert last == f"forest-serve: cannot listen on localhost:{port}: is something else listening there?"
    assert "Traceback" not in ran.stderr


def test_wrong_settings_end_it_with_status_2_before_anything_is_loaded() -> None:
    ran = subprocess.run(
        [sys.executable, "-m", "server", "--drain-timeout", "1"],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert ran.returncode == 2
    assert "error: drain_timeout 1 is below" in ran.stderr.splitlines()[-1]


def test_many_starts_and_ends_under_signals_all_end_with_status_0(
    start_server: Callable[..., Any], fraud_bundle: Path
) -> None:
    # The signal comes at one moment and another of the way from SERVING to waiting for it.
    for delay in (0.0, 0.001, 0.005):
        process = start_server(fraud_bundle.parents[1])
        killer = threading.Timer(delay, process.process.send_signal, [signal.SIGTERM])
        killer.start()
        assert process.process.wait(20) == 0
        killer.join()


def test_a_signal_that_another_thread_takes_stops_it_too(
    fraud_bundle: Path, start_server: Callable[..., Any]
) -> None:
    process = start_server(fraud_bundle.parents[1])
    process.wait_for(r"[^_]SERVING on port")
    pid = process.process.pid
    thread = max(int(task.name) for task in Path(f"/proc/{pid}/task").iterdir())
    assert thread != pid
    # The main thread's waiting is not interrupted: as when the signal comes just before it begins to wait.
    assert ctypes.CDLL(None).tgkill(pid, thread, signal.SIGTERM) == 0
    process.wait_for("DRAINING", seconds=10)
    assert process.process.wait(60) == 0
