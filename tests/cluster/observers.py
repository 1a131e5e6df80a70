"""What looks on from the namespace `monitoring`: Prometheus, by the shipped settings, and a collector."""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from gitops.layout import PROD, STAGING
from tests.cluster.images import Images
from tests.cluster.kubernetes import Kubernetes, Object
from tests.cluster.node.binaries import tool

NAMESPACE = "monitoring"
_MONITORING = Path(__file__).parents[2] / "kustomize" / "monitoring"
_COLLECTOR = Path(__file__).with_name("collector.py")
# What prometheus-kubernetes.yaml asks of a cluster, and no more.
_RULES = [{"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list", "watch"]}]
_CONTAINERFILE = 'FROM scratch\nCOPY prometheus /prometheus\nUSER 65532:65532\nENTRYPOINT ["/prometheus"]\n'


@dataclass(frozen=True, slots=True)
class Prometheus:
    """A Prometheus in the cluster, asked through the API server."""

    kubernetes: Kubernetes

    def get(self, path: str, **parameters: str) -> Any:
        """Return what its API has, or nothing while it starts."""
        place = f"/api/v1/namespaces/{NAMESPACE}/services/prometheus:9090/proxy/api/v1/{path}"
        done = self.kubernetes.try_run("get", "--raw", f"{place}?{urlencode(parameters)}")
        return json.loads(done.stdout)["data"] if done.returncode == 0 else {}

    def query(self, expression: str) -> list[tuple[dict[str, str], float]]:
        """Return labels and value of each series of an expression, as of now."""
        found = self.get("query", query=expression).get("result", [])
        return [(each["metric"], float(each["value"][1])) for each in found]


def start_collector(kubernetes: Kubernetes, image: str) -> None:
    """Start the collector that the component `traces` names, from a server's image with the extra."""
    _remove(kubernetes, "collector")
    kubernetes.apply(
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}},
        _service("collector", 4317),
        _pod("collector", image, command=["python3", "-c", _COLLECTOR.read_text()]),
    )


def collected(kubernetes: Kubernetes) -> list[dict[str, Any]]:
    """Return the spans that have come to the collector so far."""
    lines = kubernetes.run("logs", "collector", f"--namespace={NAMESPACE}").splitlines()
    return [json.loads(line) for line in lines]


def start_prometheus(kubernetes: Kubernetes, images: Images, folder: Path) -> Prometheus | None:
    """Start a Prometheus by the shipped configuration; None where there is no Go to build it.

    Parameters
    ----------
    folder : Path
        An empty one.
    """
    if not shutil.which("go"):
        return None
    shutil.copy(tool("prometheus"), folder)
    (folder / "Containerfile").write_text(_CONTAINERFILE)
    image = images.build_file(folder, folder / "Containerfile", "prometheus")

    files = {path.name: path for path in (_MONITORING / "rules").glob("*.yaml")}
    settings = {name: path.read_text() for name, path in files.items()}
    settings["prometheus.yaml"] = (_MONITORING / "prometheus-kubernetes.yaml").read_text()
    items = [{"key": name, "path": f"rules/{name}"} for name in files]
    items.append({"key": "prometheus.yaml", "path": "prometheus.yaml"})
    pod = _pod(
        "prometheus",
        image,
        args=["--config.file=/etc/prometheus/prometheus.yaml", "--storage.tsdb.path=/data"],
        volumeMounts=[
            {"name": "settings", "mountPath": "/etc/prometheus"},
            {"name": "data", "mountPath": "/data"},
        ],
    )
    pod["spec"] |= {
        "serviceAccountName": "prometheus",
        "automountServiceAccountToken": True,
        "volumes": [
            {"name": "settings", "configMap": {"name": "prometheus", "items": items}},
            {"name": "data", "emptyDir": {}},
        ],
    }
    account = {"kind": "ServiceAccount", "name": "prometheus", "namespace": NAMESPACE}
    role = {"kind": "Role", "name": "prometheus", "apiGroup": "rbac.authorization.k8s.io"}
    _remove(kubernetes, "prometheus")
    for environment in (STAGING, PROD):
        kubernetes.apply(
            _object("rbac.authorization.k8s.io/v1", "Role", rules=_RULES),
            _object("rbac.authorization.k8s.io/v1", "RoleBinding", subjects=[account], roleRef=role),
            namespace=f"forest-{environment}",
        )
    kubernetes.apply(
        _object("v1", "ServiceAccount"),
        _object("v1", "ConfigMap", data=settings),
        _service("prometheus", 9090),
        pod,
        namespace=NAMESPACE,
    )
    return Prometheus(kubernetes)


def _remove(kubernetes: Kubernetes, pod: str) -> None:
    kubernetes.run("delete", "pod", pod, f"--namespace={NAMESPACE}", "--ignore-not-found", "--wait=true")


def _object(version: str, kind: str, **rest: Any) -> Object:
    return {"apiVersion": version, "kind": kind, "metadata": {"name": "prometheus"}, **rest}


def _service(name: str, port: int) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {"selector": {"app": name}, "ports": [{"port": port}]},
    }


def _pod(name: str, image: str, **rest: Any) -> Object:
    container = {
        "name": name,
        "image": image,
        "resources": {"requests": {"cpu": "10m", "memory": "64Mi"}, "limits": {"memory": "256Mi"}},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        **rest,
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": NAMESPACE, "labels": {"app": name}},
        "spec": {
            "automountServiceAccountToken": False,
            "terminationGracePeriodSeconds": 1,
            "securityContext": {
                "runAsNonRoot": True,
                "runAsUser": 65532,
                "fsGroup": 65532,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [container],
        },
    }
