"""The Application `monitoring`: it waits for the operator's kinds, and brings dashboards and rules about."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.kubernetes import until
from tests.cluster.observers import NAMESPACE
from tests.cluster.system import System

# The kinds alone: whoever has them has an operator, which is the platform's.
_OPERATOR = "github.com/prometheus-operator/prometheus-operator@v0.85.0"
_KINDS = ("podmonitors", "prometheusrules")
_DASHBOARDS = {f"forest-dashboard-{name}" for name in ("service", "model", "drift", "capacity")}


def test_without_the_operators_kinds_sync_says_which_are_absent_and_changes_nothing(system: System) -> None:
    if "monitoring.coreos.com" in system.kubernetes.run("get", "customresourcedefinitions", "--output=name"):
        pytest.skip("the operator's kinds are in this cluster")
    assert system.argocd.state("monitoring") == ("OutOfSync", "Missing")
    system.argocd.sync("monitoring")
    try:
        until("Argo CD names the absent kinds", lambda: len(_absent(system)) == len(_KINDS))
        assert not system.kubernetes.find("configmaps", NAMESPACE, "grafana_dashboard=1")
    finally:
        system.argocd.ask("DELETE", "v1/applications/monitoring/operation")


def test_with_them_dashboards_and_rules_come(system: System, crds: None) -> None:
    def idle() -> bool:
        return system.argocd.application("monitoring")["status"]["operationState"]["phase"] != "Running"

    until("the sync that failed is over", idle)
    system.argocd.sync("monitoring")
    system.argocd.wait("monitoring")
    found = system.kubernetes.find("configmaps", NAMESPACE, "grafana_dashboard=1")
    assert {each["metadata"]["name"] for each in found} == _DASHBOARDS
    rules = system.kubernetes.get("prometheusrule", "forest", NAMESPACE)["spec"]["groups"]
    assert {group["name"] for group in rules} > {"forest-server", "forest-models"}
    assert system.kubernetes.get("podmonitor", "forest", NAMESPACE)["spec"]["podMetricsEndpoints"]


@pytest.fixture
def crds(system: System) -> None:
    """Have the operator's kinds in the cluster, of whichever version."""
    if "monitoring.coreos.com" in system.kubernetes.run("get", "customresourcedefinitions", "--output=name"):
        return
    command = ["go", "mod", "download", "-json", _OPERATOR]
    try:
        done = subprocess.run(command, cwd="/", capture_output=True, text=True, check=False, timeout=120)
    except FileNotFoundError:
        pytest.skip("go is not on PATH: it fetches the operator's kinds")
    found: dict[str, Any] = json.loads(done.stdout)
    if "Error" in found:
        pytest.skip(f"go reaches no module proxy: {found['Error']}")
    folder = Path(found["Dir"]) / "example" / "prometheus-operator-crd"
    files = [f"--filename={folder / f'monitoring.coreos.com_{kind}.yaml'}" for kind in _KINDS]
    system.kubernetes.run("apply", "--server-side", *files)
    names = [f"customresourcedefinition/{kind}.monitoring.coreos.com" for kind in _KINDS]
    system.kubernetes.run("wait", "--for=condition=Established", *names, "--timeout=30s")


def _absent(system: System) -> list[str]:
    state = system.argocd.application("monitoring")["status"].get("operationState", {})
    results = state.get("syncResult", {}).get("resources", [])
    return [each["kind"] for each in results if "Make sure the" in each.get("message", "")]
