"""What runs beside the models, field by field: MLflow."""

import re
from pathlib import Path

import pytest

from gitops.rules import schema

ROOT = Path(__file__).parents[2]
LABELS = {"app.kubernetes.io/name": "mlflow"}


@pytest.fixture
def mlflow(rendered):
    return rendered("kustomize/apps/mlflow")


@pytest.fixture
def pod(mlflow):
    return mlflow.one("Deployment")["spec"]["template"]["spec"]


@pytest.fixture
def server(pod):
    (container,) = pod["containers"]
    return container


def test_these_objects_and_no_others(mlflow):
    assert sorted((each["kind"], each["metadata"]["name"]) for each in mlflow.objects) == [
        ("Deployment", "mlflow"),
        ("Namespace", "mlflow"),
        ("NetworkPolicy", "default-deny"),
        ("NetworkPolicy", "mlflow"),
        ("PersistentVolumeClaim", "mlflow-artifacts"),
        ("ResourceQuota", "mlflow"),
        ("Service", "mlflow"),
        ("ServiceAccount", "mlflow"),
    ]
    assert {each["metadata"].get("namespace", "mlflow") for each in mlflow.objects} == {"mlflow"}


@pytest.mark.parametrize("version", [schema.KUBERNETES, "1.34"])
def test_it_is_valid(mlflow, version):
    kubernetes_validate = pytest.importorskip(
        "kubernetes_validate", reason="kubernetes-validate is not installed"
    )
    for each in mlflow.objects:
        kubernetes_validate.validate(each, version, strict=True)


def test_one_pod_at_a_time_has_the_volume(mlflow, pod):
    spec = mlflow.one("Deployment")["spec"]
    claim = mlflow.one("PersistentVolumeClaim")
    assert claim["spec"]["accessModes"] == ["ReadWriteOnce"]
    assert (spec["replicas"], spec["strategy"]) == (1, {"type": "Recreate"})
    assert claim["metadata"]["annotations"] == {"argocd.argoproj.io/sync-options": "Prune=false,Delete=false"}
    claims = [each["persistentVolumeClaim"]["claimName"] for each in pod["volumes"] if "emptyDir" not in each]
    assert claims == [claim["metadata"]["name"]]


def test_what_is_written_goes_to_volumes(pod, server):
    mounts = {each["name"]: each["mountPath"] for each in server["volumeMounts"]}
    assert mounts.keys() == {each["name"] for each in pod["volumes"]}
    assert f"--artifacts-destination={mounts['artifacts']}" in server["args"]
    home = next(each["value"] for each in server["env"] if each["name"] == "HOME")
    assert home == mounts["tmp"]
    assert pod["securityContext"]["fsGroup"] == pod["securityContext"]["runAsGroup"]


def test_the_database_is_a_secrets_to_say(mlflow, server):
    (address,) = [each for each in server["env"] if each["name"] == "MLFLOW_BACKEND_STORE_URI"]
    assert address["valueFrom"] == {"secretKeyRef": {"name": "mlflow-database", "key": "uri"}}
    assert "mlflow-database" in (ROOT / "docs" / "deployment.md").read_text(), "who makes it"
    assert not re.search(r"postgresql|password", mlflow.text)


def test_it_is_restricted_and_tells_nobody(mlflow, pod, server):
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert (pod["automountServiceAccountToken"], pod["enableServiceLinks"]) == (False, False)
    assert server["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert {"name": "MLFLOW_DISABLE_TELEMETRY", "value": "true"} in server["env"]
    labels = mlflow.one("Namespace")["metadata"]["labels"]
    assert labels == {"pod-security.kubernetes.io/enforce": "restricted"}


def test_it_fits_its_quota_and_no_second_one_does(mlflow, server):
    hard = mlflow.one("ResourceQuota")["spec"]["hard"]
    assert hard.items() >= {"pods": "2", "limits.memory": "4Gi"}.items()
    assert server["resources"] == {
        "requests": {"cpu": "250m", "memory": "1Gi"},
        "limits": {"cpu": "2", "memory": "2Gi"},
    }


def test_probes_end_a_slow_start_before_the_rollout_is_given_up(mlflow, server):
    (port,) = server["ports"]
    for name in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert server[name]["httpGet"]["path"] == "/health"
        assert server[name]["httpGet"]["port"] == port["containerPort"]
    startup = server["startupProbe"]
    deadline = mlflow.one("Deployment")["spec"]["progressDeadlineSeconds"]
    assert startup["periodSeconds"] * startup["failureThreshold"] < deadline


def test_who_may_call_it_and_whom_it_calls(mlflow):
    policy = mlflow.one("NetworkPolicy", "mlflow")["spec"]
    assert policy["podSelector"] == {"matchLabels": LABELS}
    assert policy["policyTypes"] == ["Ingress", "Egress"]
    (calls,) = policy["ingress"]
    (peer,) = calls["from"]
    assert peer.keys() == {"namespaceSelector", "podSelector"}, "both, not either"
    assert calls["ports"] == [{"port": 5000}]
    dns, database = policy["egress"]
    assert dns == {
        "to": dns["to"],
        "ports": [{"port": 53, "protocol": "UDP"}, {"port": 53, "protocol": "TCP"}],
    }
    # Addresses for documentation: no database has one.
    assert database == {"to": [{"ipBlock": {"cidr": "192.0.2.0/24"}}], "ports": [{"port": 5432}]}
    assert mlflow.one("NetworkPolicy", "default-deny")["spec"]["podSelector"] == {}
    assert mlflow.one("Service")["spec"]["selector"] == LABELS
