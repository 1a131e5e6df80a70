"""Dashboards and rules on a real Prometheus that asks the real server under load: no panel is empty."""

import json
import math
import re
import socket
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlencode

import grpc
import pytest
import yaml
from forest.v1.prediction_service_pb2 import (
    PredictBatchRequest,
    PredictRequest,
    PredictStreamRequest,
    Record,
    Records,
)
from forest.v1.prediction_service_pb2_grpc import PredictionServiceStub

from tests.kustomize.monitoring.conftest import MONITORING

# What others tell: kube-state-metrics, and the kubelet's cAdvisor. In their form, of one pod.
KUBERNETES = """\
# TYPE kube_pod_container_resource_limits gauge
kube_pod_container_resource_limits{namespace="forest-prod",pod="fraud-forest-5d4f9c-x2x7b",uid="f1",container="server",node="node-1",resource="cpu",unit="core"} 0.5
kube_pod_container_resource_limits{namespace="forest-prod",pod="fraud-forest-5d4f9c-x2x7b",uid="f1",container="server",node="node-1",resource="memory",unit="byte"} 5.36870912e+08
# TYPE kube_pod_container_status_restarts_total counter
kube_pod_container_status_restarts_total{namespace="forest-prod",pod="fraud-forest-5d4f9c-x2x7b",uid="f1",container="server"} 1
# TYPE kube_horizontalpodautoscaler_status_current_replicas gauge
kube_horizontalpodautoscaler_status_current_replicas{namespace="forest-prod",horizontalpodautoscaler="fraud-forest"} 3
# TYPE kube_horizontalpodautoscaler_status_desired_replicas gauge
kube_horizontalpodautoscaler_status_desired_replicas{namespace="forest-prod",horizontalpodautoscaler="fraud-forest"} 4
# TYPE kube_horizontalpodautoscaler_spec_max_replicas gauge
kube_horizontalpodautoscaler_spec_max_replicas{namespace="forest-prod",horizontalpodautoscaler="fraud-forest"} 10
# TYPE kube_deployment_status_replicas_updated gauge
kube_deployment_status_replicas_updated{namespace="forest-prod",deployment="fraud-forest"} 1
# TYPE kube_deployment_status_replicas_unavailable gauge
kube_deployment_status_replicas_unavailable{namespace="forest-prod",deployment="fraud-forest"} 1
# TYPE container_memory_working_set_bytes gauge
container_memory_working_set_bytes{container="server",id="/kubepods/pod1",image="fraud",name="a1",namespace="forest-prod",pod="fraud-forest-5d4f9c-x2x7b"} 1.34217728e+08
# TYPE container_cpu_usage_seconds_total counter
container_cpu_usage_seconds_total{container="server",cpu="total",id="/kubepods/pod1",image="fraud",name="a1",namespace="forest-prod",pod="fraud-forest-5d4f9c-x2x7b"} %(now)f
# TYPE container_cpu_cfs_periods_total counter
container_cpu_cfs_periods_total{container="server",id="/kubepods/pod1",image="fraud",name="a1",namespace="forest-prod",pod="fraud-forest-5d4f9c-x2x7b"} %(now)f
# TYPE container_cpu_cfs_throttled_periods_total counter
container_cpu_cfs_throttled_periods_total{container="server",id="/kubepods/pod1",image="fraud",name="a1",namespace="forest-prod",pod="fraud-forest-5d4f9c-x2x7b"} %(tenth)f
"""  # noqa: E501
# By these names alone is it known what those tell; all else has to come from the server itself.
OF_KUBERNETES = ("kube_", "container_")
PLACE = {"namespace": "forest-prod", "pod": "fraud-forest-5d4f9c-x2x7b"}
_KINDS = {str: "text", bool: "flag", int: "number", float: "number"}


class _Others(BaseHTTPRequestHandler):
    def do_GET(self):
        seconds = time.monotonic()
        body = (KUBERNETES % {"now": seconds, "tenth": seconds / 10}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/plain; version=0.0.4")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments):
        pass


@pytest.fixture
def others() -> Iterator[int]:
    """Return the port where those are told."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _Others) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_address[1]
        server.shutdown()


def free() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


def rows(models: Path, name: str) -> list[Record]:
    """Return golden rows: they lie about the threshold, so all labels and levels of risk come."""
    records = []
    for line in (models / name / "1.0.0" / "golden.jsonl").read_text().splitlines():
        record = Record()
        for feature, value in json.loads(line)["record"].items():
            if value is not None:
                setattr(record.features[feature], _KINDS[type(value)], value)
        records.append(record)
    return records


@pytest.fixture
def load(four_models, start_server, authority, tmp_path) -> Iterator[int]:
    """Return the port of a server's metrics. It speaks TLS, and keeps an audit log."""
    pair = authority("bank").sign("server")
    port = free()
    server = start_server(
        four_models,
        f"--metrics-port={port}",
        f"--tls-certificate={pair.certificate}",
        f"--tls-key={pair.key}",
        "--audit=best-effort",
        f"--audit-folder={tmp_path / 'audit'}",
    )
    credentials = grpc.ssl_channel_credentials(pair.certificate.parent.joinpath("bank.crt").read_bytes())
    done = threading.Event()
    with grpc.secure_channel(server.target, credentials) as channel, ThreadPoolExecutor() as pool:
        calls = pool.submit(_call, PredictionServiceStub(channel), four_models, done)
        yield port
        done.set()
        calls.result(30)
    server.stop()


def _call(stub: PredictionServiceStub, models: Path, done: threading.Event) -> None:
    golden = {name: rows(models, name) for name in ("fraud", "credit", "churn", "demand")}
    while not done.is_set():
        for name, records in golden.items():
            for record in records[:20]:
                stub.Predict(PredictRequest(model=name, record=record), timeout=10)
            stub.PredictBatch(PredictBatchRequest(model=name, records=Records(records=records)), timeout=10)
            asked = (PredictStreamRequest(model=name, record=each) for each in records[:5])
            assert len(list(stub.PredictStream(asked, timeout=10))) == 5
        with pytest.raises(grpc.RpcError):
            stub.Predict(PredictRequest(model="fraud"), timeout=10)
        done.wait(0.05)


class Prometheus:
    """The real one, on loopback."""

    def __init__(self, port: int):
        self._address = f"http://127.0.0.1:{port}"

    def get(self, path: str, **parameters: str):
        address = f"{self._address}{path}?{urlencode(parameters)}"
        with urllib.request.urlopen(address, timeout=10) as response:
            return json.load(response)["data"]

    def query(self, expression: str) -> list[tuple[dict[str, str], float]]:
        """Return labels and value of each series that has a number now."""
        found = self.get("/api/v1/query", query=expression)["result"]
        series = [(each["metric"], float(each["value"][1])) for each in found]
        return [(labels, value) for labels, value in series if not math.isnan(value)]


@pytest.fixture
def prometheus(program, tmp_path, load, others) -> Iterator[Prometheus]:
    """Return a Prometheus with the rules, that asks every second."""
    command = program("prometheus", "prometheus")
    for file in (MONITORING / "rules").glob("*.yaml"):
        # Each group's own interval is longer than this test.
        (tmp_path / file.name).write_text(re.sub(r"(?m)^    interval: .*\n", "", file.read_text()))
    job = {
        "job_name": "fraud-forest",
        "static_configs": [{"targets": [f"localhost:{load}"], "labels": PLACE}],
    }
    rest = {
        "job_name": "kubernetes",
        "honor_labels": True,
        "static_configs": [{"targets": [f"127.0.0.1:{others}"]}],
    }
    settings = {
        "global": {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"},
        "rule_files": [str(tmp_path / "*.yaml")],
        "scrape_configs": [job, rest],
    }
    file = tmp_path / "settings.yml"
    file.write_text(yaml.safe_dump(settings))
    port = free()
    log = (tmp_path / "log").open("w")
    process = subprocess.Popen(
        [
            command,
            f"--config.file={file}",
            f"--storage.tsdb.path={tmp_path / 'data'}",
            f"--web.listen-address=127.0.0.1:{port}",
            "--log.level=warn",
        ],
        stdout=log,
        stderr=subprocess.STDOUT,
    )
    yield Prometheus(port)
    process.terminate()
    process.wait(20)
    log.close()
    warnings = [line for line in (tmp_path / "log").read_text().splitlines() if "SIGTERM" not in line]
    assert not warnings


def test_no_panel_is_empty_under_load(prometheus, dashboards, ask):
    asked = [
        (f"{name}: {panel['title']}", target, ask(dashboard, target["expr"]))
        for name, dashboard in dashboards.items()
        for panel in dashboard["panels"]
        for target in panel["targets"]
    ]
    found = {}
    deadline = time.monotonic() + 40
    while missing := [each for each in asked if each[2] not in found]:
        assert time.monotonic() < deadline, [(title, expression) for title, _, expression in missing]
        time.sleep(0.5)
        for _, _, expression in missing:
            try:
                answer = prometheus.query(expression)
            except urllib.error.HTTPError as error:
                if error.code == 503:
                    break  # it starts
                raise AssertionError(f"{expression}: {error.read().decode()}") from error
            except urllib.error.URLError:
                break  # it does not listen yet
            if answer:
                found[expression] = answer
    for title, target, expression in asked:
        for labels, _ in found[expression]:
            assert set(re.findall(r"{{(\w+)}}", target["legendFormat"])) <= labels.keys(), title
    assert not prometheus.query(
        'ALERTS{alertstate="firing", severity="page", alertname!="ForestCertificateExpires"}'
    )

    figures = {title: found[expression] for title, _, expression in asked}
    for title in (
        "service: Calls",
        "service: Servers that serve",
        "model: Rows",
        "model: High risk",
        "capacity: Workers",
    ):
        assert figures[title][0][1] > 0, title
    assert figures["service: Availability"][0][1] == 1
    assert {labels["risk_level"] for labels, _ in figures["model: Predictions by risk level"]} > {
        "low",
        "high",
    }
    assert {labels["model"] for labels, _ in figures["model: Versions"]} == {
        "fraud",
        "credit",
        "churn",
        "demand",
    }
    assert {"precision", "recall"} < {labels["metric"] for labels, _ in figures["model: Quality"]}
    assert {labels["grpc_code"] for labels, _ in figures["service: Errors by code"]} >= {"InvalidArgument"}


def test_what_is_not_the_servers_own_is_named():
    """The exposition that stands in for Kubernetes' own tells nothing that the server could tell."""
    names = set(re.findall(r"^(\w+){", KUBERNETES, re.M))
    assert names
    assert all(name.startswith(OF_KUBERNETES) for name in names)
