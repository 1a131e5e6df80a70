"""Prometheus finds every pod by the shipped settings, and dashboards have what they ask for."""

import json
import re
from contextlib import suppress
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from gitops.layout import PROD, STAGING
from tests.cluster.clone import MODEL
from tests.cluster.kubernetes import until
from tests.cluster.observers import Prometheus
from tests.cluster.system import System, namespace
from tests.kustomize.monitoring.conftest import MONITORING, ask

_ENVIRONMENTS = (STAGING, PROD)
# Others tell of these: kube-state-metrics and the kubelet. Nor does a server here speak TLS.
_OF_OTHERS = re.compile(r"\b(kube_|container_|forest_certificate_)")
# The model has no category, and no call fails.
_NOTHING_HERE = {"drift: Distance of categories and flags", "service: Errors by code"}


@pytest.fixture
def prometheus(system: System) -> Prometheus:
    """Return the Prometheus in the cluster."""
    if not system.prometheus:
        pytest.skip("go is not on PATH: it builds the Prometheus that knows Kubernetes")
    return system.prometheus


@pytest.mark.parametrize("environment", _ENVIRONMENTS)
def test_every_pod_counts_its_calls(system: System, environment: str) -> None:
    for pod in system.pods[environment].serving():
        found = system.kubernetes.get("pod", pod.name, namespace(environment))
        place = found["metadata"]["annotations"]
        assert place["prometheus.io/scrape"] == "true"
        path = f"{pod.name}:{place['prometheus.io/port']}/proxy{place['prometheus.io/path']}"

        def answered(path: str = path) -> float:
            told = system.kubernetes.run(
                "get", "--raw", f"/api/v1/namespaces/{namespace(environment)}/pods/{path}"
            )
            labels = {"grpc_method": "Predict", "grpc_code": "OK"}
            return sum(
                sample.value
                for family in text_string_to_metric_families(told)
                for sample in family.samples
                if sample.name == "grpc_server_handled_total" and labels.items() <= sample.labels.items()
            )

        until(f"{pod.name} has counted a call", answered)


def test_prometheus_finds_each_pod_and_names_it(system: System, prometheus: Prometheus) -> None:
    expected = {
        (namespace(environment), pod.name, f"{MODEL}-forest", pod.name)
        for environment in _ENVIRONMENTS
        for pod in system.pods[environment].serving()
    }

    def found() -> bool:
        targets = prometheus.get("targets", state="active").get("activeTargets", [])
        names = ("namespace", "pod", "job", "instance")
        # Pods that are about to end are targets, too.
        return expected <= {
            tuple(each["labels"][name] for name in names) for each in targets if each["health"] == "up"
        }

    until("every pod is a target that answers", found)


def test_no_panel_of_what_servers_tell_is_empty(system: System, prometheus: Prometheus) -> None:
    asked: dict[str, tuple[str, set[str]]] = {}
    for file in sorted((MONITORING / "grafana" / "dashboards").glob("*.json")):
        dashboard: dict[str, Any] = json.loads(file.read_text())
        for panel in dashboard["panels"]:
            for target in panel["targets"]:
                if not _OF_OTHERS.search(target["expr"]):
                    expression = ask(dashboard, target["expr"], rate_interval="1m", range_="15m")
                    labels = set(re.findall(r"{{(\w+)}}", target["legendFormat"]))
                    asked[expression] = f"{file.stem}: {panel['title']}", labels
    assert len(asked) > 30
    answers: dict[str, list[tuple[dict[str, str], float]]] = {}

    def missing() -> set[str]:
        for expression in asked.keys() - answers.keys():
            if answer := prometheus.query(expression):
                answers[expression] = answer
        return {asked[expression][0] for expression in asked.keys() - answers.keys()} - _NOTHING_HERE

    with suppress(AssertionError):
        until("panels have something to show", lambda: not missing(), pause=1)
    assert missing() == set()
    for expression, answer in answers.items():
        title, labels = asked[expression]
        for series, _ in answer:
            assert labels <= series.keys(), title


def test_kubernetes_names_pods_as_panels_and_rules_ask(system: System) -> None:
    """Not kube-state-metrics itself, which is not here; but what it would tell of has these names."""
    place, name = namespace(PROD), f"{MODEL}-forest"
    for kind in ("deployment", "horizontalpodautoscaler"):
        assert system.kubernetes.exists(kind, name, place)
    asked = set(re.findall(r"\b(container_\w+){", "".join(map(Path.read_text, MONITORING.rglob("*.json")))))
    assert len(asked) == 4
    nodes = system.kubernetes.run("get", "nodes", "--output=name").split()
    pods = {pod.name for pod in system.pods[PROD].serving()}
    assert all(pod.startswith(f"{name}-") for pod in pods)

    def told() -> set[tuple[str, str]]:
        found = set()
        for node in nodes:
            path = f"/api/v1/nodes/{node.removeprefix('node/')}/proxy/metrics/cadvisor"
            for line in system.kubernetes.run("get", "--raw", path).splitlines():
                if f'namespace="{place}"' in line and 'container="server"' in line:
                    found |= {(line.partition("{")[0], pod) for pod in pods if f'pod="{pod}"' in line}
        return found

    until("the kubelet tells of each server", lambda: set(product(asked, pods)) <= told(), pause=1)


def test_nobody_was_woken_because_of_releases(system: System, prometheus: Prometheus) -> None:
    rules = [rule for group in prometheus.get("rules")["groups"] for rule in group["rules"]]
    assert [rule["name"] for rule in rules if rule["health"] != "ok"] == []
    fired = prometheus.query(
        'count by (alertname, severity, namespace) (last_over_time(ALERTS{alertstate="firing"}[2h]))'
    )
    print([labels for labels, _ in fired])
    # How fast calls are on a machine where all parts share the processors is not the releases' fault.
    names = {labels["alertname"] for labels, _ in fired if labels["severity"] == "page"}
    assert names <= {"ForestCallsSlow"}
