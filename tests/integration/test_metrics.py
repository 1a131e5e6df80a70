"""What the real server tells Prometheus: all of it, of all workers, whatever becomes of them."""

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
import urllib.request
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import grpc
import pytest
from forest.v1.model_service_pb2 import GetModelRequest
from forest.v1.model_service_pb2_grpc import ModelServiceStub
from forest.v1.prediction_service_pb2 import Matrix, PredictBatchRequest, PredictRequest, Record, Vector
from forest.v1.prediction_service_pb2_grpc import PredictionServiceStub
from prometheus_client.parser import text_string_to_metric_families

REQUEST = PredictRequest(model="fraud", vector=Vector(values=[0.0] * 30))
Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def scrape(port: int) -> str:
    with urllib.request.urlopen(f"http://localhost:{port}/metrics", timeout=20) as response:
        return str(response.read().decode())


def samples(text: str) -> Samples:
    found: Samples = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            key = sample.name, frozenset(sample.labels.items())
            assert key not in found, "told twice"
            found[key] = sample.value
    return found


def total(found: Samples, name: str, **labels: str) -> float:
    """Return the sum of what there is of a name, with these labels among others."""
    return sum(value for (each, of), value in found.items() if each == name and labels.items() <= set(of))


def predicts(port: int) -> float:
    return total(samples(scrape(port)), "grpc_server_handled_total", grpc_method="Predict", grpc_code="OK")


def wait(true: Callable[[], bool], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.fixture
def start(start_server: Callable[..., Any], metrics_port: int) -> Callable[..., tuple[Any, int]]:
    """Return a function that starts a server on a folder, and says its port of metrics."""

    def start(models: Path, *flags: str) -> tuple[Any, int]:
        process = start_server(models, "--metrics-port", str(metrics_port), *flags)
        process.wait_for(rf"metrics on port {metrics_port}")
        return process, metrics_port

    return start


@pytest.fixture
def workers(start: Callable[..., tuple[Any, int]], fraud_bundle: Path) -> tuple[Any, int]:
    """Return a server of two workers that both serve, and its port of metrics."""
    process, port = start(fraud_bundle.parents[1], "--workers", "2")
    for number in (1, 2):
        process.wait_for(rf"worker {number}: SERVING on port")
    return process, port


def _process(process: Any, name: str) -> int:
    """Return the newest process of a name in the log."""
    return [int(line.rpartition(" ")[2]) for line in tuple(process.log) if f"{name} is process " in line][-1]


def test_counts_of_workers_add_up_and_survive_them(
    workers: tuple[Any, int],
    connect: Callable[..., Any],
    call_without_pause: Callable[..., Any],
    golden: list[Any],
) -> None:
    process, port = workers

    def call(times: int) -> None:
        for _ in range(times):
            with connect(process.target) as channel:
                PredictionServiceStub(channel).Predict(REQUEST, timeout=10)

    call(40)
    wait(lambda: predicts(port) == 40)
    # Rows, scores and times are put there each second.
    wait(lambda: total(samples(scrape(port)), "forest_rows_total") == 40)
    os.kill(_process(process, "worker 1"), signal.SIGKILL)
    wait(lambda: sum("worker 1: SERVING" in line for line in tuple(process.log)) == 2)
    found = samples(scrape(port))
    assert total(found, "grpc_server_handled_total", grpc_method="Predict") == 40
    assert total(found, "forest_rows_total", model="fraud") == total(found, "predictions_total") == 40
    assert (total(found, "forest_workers"), total(found, "forest_worker_ends_total")) == (2, 1)
    call(40)
    wait(lambda: predicts(port) == 80)

    # Under load they never go back, and miss no call that was answered.
    seen: list[Samples] = []
    done = threading.Event()

    def watch() -> None:
        while not done.is_set():
            seen.append(samples(scrape(port)))

    watcher = threading.Thread(target=watch)
    options = (("grpc.enable_retries", 1),)
    with connect(process.target, *options) as one, connect(process.target, *options) as other:
        watcher.start()
        with call_without_pause(one, golden) as load, call_without_pause(other, golden) as more:
            time.sleep(0.5)
            os.kill(_process(process, "worker 2"), signal.SIGKILL)
            wait(lambda: sum("worker 2: SERVING" in line for line in tuple(process.log)) == 2)
            time.sleep(0.5)
    answered = 80 + sum(load.answers.values()) + sum(more.answers.values())
    failed = len(load.failures) + len(more.failures)
    done.set()
    watcher.join()
    # Of a killed worker those in flight may have been answered and not counted, or counted and not answered.
    assert answered - 6 <= predicts(port) <= answered + failed
    before_last = predicts(port)
    call(40)
    wait(lambda: predicts(port) == before_last + 40)
    seen.append(samples(scrape(port)))
    assert len(seen) > 5
    for earlier, later in pairwise(seen):
        for (name, labels), value in earlier.items():
            if name.endswith(("_total", "_count", "_bucket", "_sum")):
                assert later[name, labels] >= value, (name, labels)
    assert process.stop() == 0


def test_everything_that_the_documentation_lists_is_told_and_nothing_else(
    start: Callable[..., tuple[Any, int]], four_models: Path, connect: Callable[..., Any]
) -> None:
    process, port = start(four_models)
    manifests = [json.loads(file.read_bytes()) for file in sorted(four_models.glob("*/*/manifest.json"))]
    with connect(process.target) as channel:
        stub = PredictionServiceStub(channel)
        for manifest in manifests:
            golden = (four_models / manifest["model"] / "1.0.0" / "golden.jsonl").read_text().splitlines()[0]
            record = Record()
            for name, value in json.loads(golden)["record"].items():
                if value is not None:
                    kind = {bool: "flag", str: "text"}.get(type(value), "number")
                    setattr(record.features[name], kind, value)
            for _ in range(3):
                stub.Predict(PredictRequest(model=manifest["model"], record=record), timeout=10)
        rows = Matrix(rows=500, columns=30, data=bytes(4 * 500 * 30))
        stub.PredictBatch(PredictBatchRequest(model="fraud", matrix=rows), timeout=10)
    # What is scored is looked at each second.
    wait(lambda: total(samples(scrape(port)), "data_drift_rows", model="fraud") == 503, 30)
    text = scrape(port)
    found = samples(text)
    documentation = (Path(__file__).parents[2] / "docs" / "metrics.md").read_text()
    listed = {
        name
        for line in documentation.splitlines()
        if line.startswith("| `")
        for name in re.findall(r"`([a-z0-9_]+)`", line.split(" | ")[0])
    }
    told = set(re.findall(r"^# HELP (\S+)", text, re.MULTILINE))
    of_manifests = {
        "model_" + name.replace("f1", "f1_score") for manifest in manifests for name in manifest["metrics"]
    }
    assert told - of_manifests == listed - of_manifests
    assert listed & of_manifests <= told
    for manifest in manifests:
        for metric, told_as in manifest["metrics"].items():
            name = "model_" + metric.replace("f1", "f1_score")
            assert total(found, name, model=manifest["model"]) == pytest.approx(told_as["value"])
        assert total(found, "model_ready", model=manifest["model"]) == 1
    assert total(found, "forest_rows_total", model="fraud") == 503
    assert total(found, "predictions_total", model="fraud") == 503
    assert total(found, "model_score_count", model="fraud") == 503
    (model,) = [each for each in manifests if each["model"] == "fraud"]
    features = [feature["name"] for feature in model["features"]]
    for feature in features:
        # 500 rows of 503 are the same one.
        assert total(found, "data_drift_level", model="fraud", feature=feature) == 2
    for phase in ("wait", "decode", "run", "encode"):
        counts = {
            method: total(found, "forest_call_phase_seconds_count", grpc_method=method, phase=phase)
            for method in ("Predict", "PredictBatch")
        }
        assert counts["PredictBatch"] == 1
        assert counts["Predict"] >= 3
    if not shutil.which("promtool"):
        pytest.skip("no promtool, which would look at the names: Debian's package prometheus has it")
    checked = subprocess.run(
        ["promtool", "check", "metrics"], input=text, capture_output=True, text=True, check=False
    )
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, "", "")


def test_nothing_that_a_caller_sends_becomes_a_label(
    start: Callable[..., tuple[Any, int]], fraud_bundle: Path, connect: Callable[..., Any]
) -> None:
    process, port = start(fraud_bundle.parents[1])

    def calls(channel: grpc.Channel, mark: str) -> None:
        metadata = [("x-request-id", mark), ("user-agent", mark), (f"x-{mark}", mark)]
        stub, models = PredictionServiceStub(channel), ModelServiceStub(channel)
        vector = Vector(values=[0.0] * 30)
        for call, request in (
            (stub.Predict, PredictRequest(model=mark, vector=vector, request_id=mark)),
            (stub.Predict, PredictRequest(model="fraud", version=mark, vector=vector, request_id=mark)),
            (stub.Predict, PredictRequest(model="fraud", vector=vector, request_id=mark)),
            (models.GetModel, GetModelRequest(model=mark)),
            *(
                (channel.unary_unary(path, lambda data: data, lambda data: data), b"")
                for path in (f"/{mark}", f"/{mark}/{mark}", f"/forest.v1.PredictionService/{mark}", "/")
            ),
        ):
            try:
                call(request, timeout=10, metadata=metadata)
            except grpc.RpcError:
                continue
        list(stub.PredictStream(iter([PredictRequest(model=mark, request_id=mark)] * 2), timeout=10))

    with connect(process.target) as channel:
        calls(channel, "mark")
        first = total(samples(scrape(port)), "grpc_server_started_total")
        wait(lambda: total(samples(scrape(port)), "grpc_server_handled_total") == first)
        wait(lambda: total(samples(scrape(port)), "forest_call_phase_seconds_count", phase="run") == 1)
        before = set(samples(scrape(port)))
        for count in range(20):
            calls(channel, f"mark-{count}")
        wait(lambda: total(samples(scrape(port)), "grpc_server_handled_total") == 21 * first)
    text = scrape(port)
    assert "mark" not in text
    assert set(samples(text)) == before
    unknown = {"grpc_service": "unknown", "grpc_method": "unknown", "grpc_code": "Unimplemented"}
    assert total(samples(text), "grpc_server_handled_total", **unknown) >= 21


def test_the_end_of_the_certificate_is_told_and_that_the_server_leaves(
    start: Callable[..., tuple[Any, int]], fraud_bundle: Path, authority: Callable[[str], Any]
) -> None:
    pair = authority("root").sign("server", "DNS:localhost")
    files = ("--tls-certificate", str(pair.certificate), "--tls-key", str(pair.key))
    process, port = start(fraud_bundle.parents[1], *files, "--leave-timeout", "600")
    name = "forest_certificate_expiry_timestamp_seconds"
    wait(lambda: total(samples(scrape(port)), name) > time.time())
    assert total(samples(scrape(port)), "forest_serving") == 1
    with socket.create_connection(("localhost", int(process.target.rpartition(":")[2]))):
        process.process.send_signal(signal.SIGTERM)
        wait(lambda: total(samples(scrape(port)), "forest_serving") == 0)
    assert process.stop(signal.SIGTERM) == 128 + signal.SIGTERM


def test_the_exporter_is_started_again_and_goes_with_the_server(workers: tuple[Any, int]) -> None:
    process, port = workers
    for _ in range(2):
        before = _process(process, "exporter")
        # The port of a dead one still takes connections: who asks meanwhile waits, and is answered.
        os.kill(before, signal.SIGKILL)
        assert "forest_workers 2.0" in scrape(port) or "forest_workers" in scrape(port)
        wait(lambda before=before: _process(process, "exporter") != before)
    assert total(samples(scrape(port)), "forest_worker_ends_total") == 0
    # It has neither grpc nor models.
    loaded = Path(f"/proc/{_process(process, 'exporter')}/maps").read_text()
    assert "cygrpc" not in loaded
    assert "libonnxruntime" not in loaded
    for _ in range(4):
        before = _process(process, "exporter")
        os.kill(before, signal.SIGKILL)
        wait(lambda before=before: _process(process, "exporter") != before or "no metrics" in process.log[-1])
    process.wait_for("exporter ended 6 times within 60 s: there are no metrics from now on")
    with pytest.raises(OSError, match="refused"):
        scrape(port)
    assert process.process.poll() is None
    assert process.stop() == 0


def test_the_exporter_ends_with_its_supervisor(workers: tuple[Any, int]) -> None:
    process, port = workers
    exporter = _process(process, "exporter")
    process.process.send_signal(signal.SIGINT)
    os.kill(exporter, signal.SIGINT)
    os.kill(exporter, signal.SIGTERM)
    assert "forest_workers 2.0" in scrape(port), "while the workers drain it goes on"
    process.process.kill()
    wait(
        lambda: not Path(f"/proc/{exporter}").exists() or ") Z " in Path(f"/proc/{exporter}/stat").read_text()
    )


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_port_of_metrics_where_something_else_listens_is_refused(fraud_bundle: Path, workers: str) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        command = [sys.executable, "-m", "server", "--models", str(fraud_bundle.parents[1])]
        command += ["--port=0", "--health-port=0", f"--metrics-port={port}", f"--workers={workers}"]
        ran = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert ran.returncode == 1
    complaint = f"cannot listen on localhost:{port}: is something else listening there?"
    assert ran.stderr == f"forest-serve: {complaint}\n"
