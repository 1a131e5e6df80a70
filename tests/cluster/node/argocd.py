"""Argo CD: one binary, a process for each of its roles, beside the cluster and not in it."""

import base64
import json
import time
import urllib.request

from tests.cluster.node import kubeconfig
from tests.cluster.node.binaries import binary, kept, tool
from tests.cluster.node.command import inside, run, succeeds
from tests.cluster.node.error import NodeError
from tests.cluster.node.kubelet import kubectl
from tests.cluster.node.part import Part
from tests.cluster.node.place import ARGOCD, NODE, ROOT
from tests.cluster.node.probe import answers

_FOLDER = ROOT / "argocd"
_CONFIG = ROOT / "argocd.kubeconfig"
_KINDS = "applications.argoproj.io,applicationsets.argoproj.io,appprojects.argoproj.io"
_REDIS = "127.0.0.1:6379"
_REPOSITORIES = "127.0.0.1:8081"


def install() -> None:
    """Make Argo CD's kinds, its namespace and its settings."""
    kubeconfig.write("admin", _CONFIG, namespace="argocd")
    for name in ("tls", "ssh", "gpg-home", "gpg-data", "bin", "tmp"):
        (_FOLDER / name).mkdir(parents=True, exist_ok=True)
    run(*kubectl(), "apply", "--server-side", "-k", kept("argocd", "manifests/crds"))
    # The API server serves a kind a moment after it has been told of it; Argo CD looks for it once.
    deadline = time.monotonic() + 30
    while not succeeds(*kubectl(), "get", _KINDS, "--all-namespaces"):
        if time.monotonic() > deadline:
            raise NodeError("the API server does not serve Argo CD's kinds after 30 s")
        time.sleep(0.2)
    run(*kubectl(), "create", "namespace", "argocd")
    run(*kubectl(), "apply", "--namespace=argocd", "-k", kept("argocd", "manifests/base/config"))
    (_FOLDER / "bin" / "kustomize").symlink_to(tool("kustomize"))


def redis() -> Part:
    """Return redis, which keeps what Argo CD has rendered."""
    return Part(
        "redis",
        ("redis-server", "--bind", "127.0.0.1", "--port", "6379", "--save", "", "--appendonly", "no"),
        _ping,
    )


def repositories() -> Part:
    """Return the part that renders."""
    return _role(
        "argocd-repo-server",
        ("--redis", _REDIS, "--port", "8081", "--metrics-port", "8084"),
        f"http://{NODE}:8084/metrics",
    )


def applications() -> Part:
    """Return the part that compares and syncs."""
    return _role(
        "argocd-application-controller",
        (
            *("--redis", _REDIS, "--repo-server", _REPOSITORIES, "--metrics-port", "8082"),
            # Git is asked every five seconds, where nobody says that there is something new.
            *("--app-resync", "5", "--app-resync-jitter", "0", "--repo-server-timeout-seconds", "60"),
        ),
        f"http://{NODE}:8082/healthz",
    )


def sets() -> Part:
    """Return the part that makes an Application for each folder."""
    return _role(
        "argocd-applicationset-controller",
        (
            *("--argocd-repo-server", _REPOSITORIES, "--metrics-addr", ":8085"),
            *("--probe-addr", ":8086", "--webhook-addr", ":8087", "--namespace", "argocd"),
        ),
        f"http://{NODE}:8085/metrics",
    )


def server() -> Part:
    """Return the API that people, CI and the UI ask."""
    return _role(
        "argocd-server",
        (
            *("--insecure", "--redis", _REDIS, "--repo-server", _REPOSITORIES),
            *("--port", "8080", "--metrics-port", "8083", "--disable-auth=false"),
        ),
        f"http://{ARGOCD}/healthz",
    )


def token() -> str:
    """Return a token of the administrator."""
    secret = json.loads(
        run(
            *kubectl(), "--namespace=argocd", "get", "secret",
            "argocd-initial-admin-secret", "--output=json",
        )
    )  # fmt: skip
    password = base64.b64decode(secret["data"]["password"]).decode()
    request = urllib.request.Request(
        f"http://{ARGOCD}/api/v1/session",
        json.dumps({"username": "admin", "password": password}).encode(),
        {"Content-Type": "application/json"},
    )
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(request, timeout=30) as answer:
        return str(json.load(answer)["token"])


def _role(name: str, arguments: tuple[str, ...], healthy: str) -> Part:
    # The roles share Argo CD's folders, and look for its settings in the cluster.
    environment = {
        "ARGOCD_BINARY_NAME": name,
        "ARGOCD_FAKE_IN_CLUSTER": "true",
        "ARGOCD_GPG_ENABLED": "false",
        "ARGOCD_TLS_DATA_PATH": str(_FOLDER / "tls"),
        "ARGOCD_SSH_DATA_PATH": str(_FOLDER / "ssh"),
        "ARGOCD_GNUPGHOME": str(_FOLDER / "gpg-home"),
        "ARGOCD_GPG_DATA_PATH": str(_FOLDER / "gpg-data"),
        "ARGOCD_PLUGINSOCKFILEPATH": str(_FOLDER / "plugins"),
        "KUBECONFIG": str(_CONFIG),
        "TMPDIR": str(_FOLDER / "tmp"),
        "PATH": f"{_FOLDER / 'bin'}:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin",
    }
    return Part(
        name,
        (binary("argocd"), *arguments, *(() if name == "argocd-repo-server" else ("--kubeconfig", _CONFIG))),
        lambda: answers(healthy),
        environment,
    )


def _ping() -> bool:
    return succeeds(*inside("redis-cli", "-h", "127.0.0.1", "ping"))
