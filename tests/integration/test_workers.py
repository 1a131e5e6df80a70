"""Several workers on one port: they serve, are replaced, and end together."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
from forest.v1.prediction_service_pb2 import PredictRequest, Vector
from forest.v1.prediction_service_pb2_grpc import PredictionServiceStub
from grpc_health.v1 import health_pb2, health_pb2_grpc

_REQUEST = PredictRequest(model="fraud", vector=Vector(values=[0.0] * 30))
_READY = ("readiness", "", "forest.v1.PredictionService", "models/fraud")


@pytest.fixture
def start(start_server: Callable[..., Any], fraud_bundle: Path) -> Callable[..., Any]:
    """Return a function that starts a server of two workers, and waits until both serve."""

    def start(*flags: str, workers: int = 2) -> Any:
        process = start_server(fraud_bundle.parents[1], "--workers", str(workers), *flags)
        for number in range(1, workers + 1):
            process.wait_for(rf"worker {number}: SERVING on port")
        return process

    return start


def _processes(process: Any, number: int) -> list[int]:
    """Return the processes that have been a worker, by its number, in order."""
    prefix = f"worker {number} is process "
    return [int(line.rpartition(prefix)[2]) for line in tuple(process.log) if prefix in line]


def _wait(true: Callable[[], bool], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def _listeners(port: int) -> int:
    lines = [
        *Path("/proc/net/tcp").read_text().splitlines(),
        *Path("/proc/net/tcp6").read_text().splitlines(),
    ]
    found = [line.split() for line in lines if ":" in line]
    return sum(each[3] == "0A" and each[1].endswith(f":{port:04X}") for each in found)


def test_every_worker_gets_connections_and_gives_the_same_answers(
    start: Callable[..., Any], connect: Callable[..., Any], health_of: Callable[..., Any]
) -> None:
    process = start()
    answers = set()
    for _ in range(30):
        with connect(process.target) as channel:
            answers.add(PredictionServiceStub(channel).Predict(_REQUEST, timeout=10).SerializeToString())
    assert len(answers) == 1
    for target in (process.target, process.health_target):
        health = health_of(target)
        assert {health[name] for name in ("liveness", "startup", *_READY)} == {"SERVING"}
    # Of both workers, at each of localhost's addresses that this machine has.
    for target in (process.target, process.health_target):
        assert _listeners(int(target.rpartition(":")[2])) in (2, 4)
    # The one who forks knows nothing of grpc.
    loaded = Path(f"/proc/{process.process.pid}/maps").read_text()
    assert "cygrpc" not in loaded
    assert "onnxruntime" not in loaded
    assert process.stop() == 0
    log = "".join(process.log)
    assert log.count(": DRAINING") == log.count(": stopped") == 2
    assert "Traceback" not in log


def test_a_worker_that_is_killed_costs_its_calls_in_flight_and_is_replaced(
    start: Callable[..., Any],
    connect: Callable[..., Any],
    call_without_pause: Callable[..., Any],
    golden: list[Any],
) -> None:
    process = start()
    threads, kills = 3, 6
    # Probes never see it: one of the workers always answers on the health port.
    ready: list[int] = []
    done = threading.Event()

    def probe() -> None:
        while not done.is_set():
            # As the kubelet: a connection for each probe. One that was the dead worker's may break.
            for _ in range(2):
                with connect(process.health_target) as channel:
                    check = health_pb2_grpc.HealthStub(channel).Check
                    try:
                        ready.append(
                            check(health_pb2.HealthCheckRequest(service="readiness"), timeout=5).status
                        )
                        break
                    except grpc.RpcError:
                        continue
            else:
                ready.append(0)
            time.sleep(0.02)

    prober = threading.Thread(target=probe)
    options = (("grpc.enable_retries", 1),)
    with connect(process.target, *options) as one, connect(process.target, *options) as other:
        prober.start()
        with (
            call_without_pause(one, golden, threads) as load,
            call_without_pause(other, golden, threads) as more,
        ):
            for count in range(kills):
                number = count % 2 + 1
                before = _processes(process, number)
                os.kill(before[-1], signal.SIGKILL)
                _wait(lambda number=number, before=before: len(_processes(process, number)) > len(before))
                _wait(
                    lambda count=count: sum(": SERVING" in line for line in tuple(process.log)) == 3 + count
                )
                time.sleep(0.2)
        done.set()
        prober.join()
    assert process.process.poll() is None
    log = "".join(process.log)
    assert log.count("ended by SIGKILL unasked") == kills
    for each in (load, more):
        assert each.started == sum(each.answers.values()) + len(each.failures)
        # A killed worker has all of a channel's calls or none: each thread's one. Its next may leave over the
        # same connection, before the client has heard that it is broken.
        assert len(each.failures) <= 2 * threads * kills
        assert all("UNAVAILABLE" in failure for failure in each.failures)
    assert sum(load.answers.values()) > 100
    assert set(ready) == {health_pb2.HealthCheckResponse.SERVING}
    assert process.stop() == 0


def test_no_worker_left_is_not_ready_and_a_stopped_one_alone_is_not_told(
    start: Callable[..., Any], health_of: Callable[..., Any]
) -> None:
    process = start()
    port = int(process.health_target.rpartition(":")[2])
    first, second = (_processes(process, number)[-1] for number in (1, 2))
    os.kill(first, signal.SIGKILL)
    assert health_of(process.health_target)["readiness"] == "SERVING"
    os.kill(second, signal.SIGKILL)
    # Both come back, on the same ports.
    _wait(lambda: sum(": SERVING" in line for line in tuple(process.log)) == 4)
    assert _listeners(port) in (2, 4)
    _wait(lambda: health_of(process.health_target)["readiness"] == "SERVING")
    assert process.stop() == 0


def test_a_worker_that_ends_over_and_over_ends_the_server(
    start: Callable[..., Any], connect: Callable[..., Any]
) -> None:
    process = start()
    for count in range(6):
        _wait(lambda count=count: len(_processes(process, 2)) == count + 1)
        os.kill(_processes(process, 2)[-1], signal.SIGKILL)
    # The other one drains as ever.
    assert process.process.wait(60) == 1
    log = "".join(process.log)
    assert "CRITICAL server.workers: worker 2 ended 6 times within 60 s: the server ends" in log
    assert "worker 1: DRAINING" in log
    assert len(_processes(process, 2)) == 6


def test_clients_that_come_back_while_it_leaves_are_served_by_any_worker(
    start: Callable[..., Any], connect: Callable[..., Any]
) -> None:
    process = start("--max-connection-age", "0.3", "--leave-timeout", "600", "--drain-timeout", "300")
    config = {"loadBalancingConfig": [{"round_robin": {}}], "healthCheckConfig": {"serviceName": ""}}
    options = (("grpc.service_config", json.dumps(config)), ("grpc.enable_retries", 1))
    with connect(process.target, *options) as channel:
        predict = PredictionServiceStub(channel).Predict
        predict(_REQUEST, timeout=10)
        process.process.send_signal(signal.SIGTERM)
        for number in (1, 2):
            process.wait_for(rf"worker {number}: LEAVING")
        # One of them has no connection at all, most of the time, and must be there for the next.
        for _ in range(100):
            predict(_REQUEST, timeout=10)
            time.sleep(0.03)
        assert not any("DRAINING" in line for line in process.log)
    assert process.process.wait(30) == 0


def test_signals_to_the_whole_group_are_one_signal(fraud_bundle: Path) -> None:
    # As Ctrl-C in a terminal, and as systemd.
    command = [sys.executable, "-m", "server", "--models", str(fraud_bundle.parents[1]), "--workers", "2"]
    with subprocess.Popen(
        [*command, "--port=0", "--health-port=0", "--log-format=text"],
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            assert process.stderr is not None
            log = []
            for line in process.stderr:
                log.append(line)
                if sum(": SERVING on port" in each for each in log) == 2:
                    break
            os.killpg(process.pid, signal.SIGINT)
            log += process.stderr.readlines()
            assert process.wait(30) == 0
        finally:
            process.kill()
    assert "".join(log).count(": stopped") == 2


def test_a_second_signal_ends_all_at_once(start: Callable[..., Any]) -> None:
    process = start("--leave-timeout", "600")
    workers = [_processes(process, number)[-1] for number in (1, 2)]
    with socket.create_connection(("localhost", int(process.target.rpartition(":")[2]))):
        process.process.send_signal(signal.SIGTERM)
        process.wait_for("LEAVING")
        assert process.stop(signal.SIGTERM, seconds=20) == 128 + signal.SIGTERM
    _wait(lambda: not any(_alive(worker) for worker in workers))


def test_workers_do_not_outlive_their_supervisor(start: Callable[..., Any]) -> None:
    process = start()
    workers = [_processes(process, number)[-1] for number in (1, 2)]
    process.process.kill()
    process.process.wait(20)
    _wait(lambda: not any(_alive(worker) for worker in workers), 30)
    # What they wrote last may still be on its way.
    process._reader.join(20)
    log = "".join(process.log)
    assert log.count("the supervisor has gone") == 2
    assert log.count(": stopped") == 2


def _alive(process: int) -> bool:
    try:
        return ") Z " not in Path(f"/proc/{process}/stat").read_text()
    except OSError:
        return False


@pytest.mark.parametrize("flag", ["--port", "--health-port"])
@pytest.mark.parametrize("shares", [False, True], ids=["alone", "shared"])
def test_a_port_where_something_else_listens_is_refused(fraud_bundle: Path, flag: str, shares: bool) -> None:
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, int(shares))
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        ran = _run(fraud_bundle, f"{flag}={port}")
    assert ran.returncode == 1
    assert (
        ran.stderr == f"forest-serve: cannot listen on localhost:{port}: is something else listening there?\n"
    )


def test_what_keeps_all_workers_from_starting_is_told_once(fraud_bundle: Path, tmp_path: Path) -> None:
    ran = _run(fraud_bundle, "--access-policy", str(tmp_path / "none.toml"))
    assert ran.returncode == 1
    assert ran.stderr.count("forest-serve: access_policy: cannot read ") == 1
    assert "the first worker did not start: the server ends" in ran.stderr
    assert "Traceback" not in ran.stderr


def _run(bundle: Path, *flags: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "server", "--models", str(bundle.parents[1]), "--workers", "2"]
    ports = [f"{flag}=0" for flag in ("--port", "--health-port") if not flags[0].startswith(flag)]
    return subprocess.run([*command, *ports, *flags], capture_output=True, text=True, timeout=60, check=False)
