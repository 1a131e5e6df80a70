"""A house with Git in it: a bare repository that environments follow, and clones of it."""

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from gitops.__main__ import main
from gitops.layout import release_file
from gitops.release import Release

IMAGE = "registry.example/forest/fraud"

MODEL_KUSTOMIZATION = """\
apiVersion: kustomize.config.k8s.io/v1beta1
kind: Kustomization
resources:
  - ../../../base
components:
  - release
patches:
  - target:
      kind: Deployment
    patch: |-
      - op: add
        path: /spec/template/metadata/annotations
        value: {{environment: {environment}}}
"""
BASE = {
    "kustomization.yaml": """\
apiVersion: kustomize.config.k8s.io/v1beta1
kind: Kustomization
resources:
  - deployment.yaml
configMapGenerator:
  - name: settings
    literals:
      - FOREST_LOG_LEVEL=info
    options:
      immutable: true
""",
    "deployment.yaml": """\
apiVersion: apps/v1
kind: Deployment
metadata:
  name: fraud
spec:
  selector:
    matchLabels: {app: fraud}
  template:
    metadata:
      labels: {app: fraud}
    spec:
      containers:
        - name: server
          image: forest
          envFrom:
            - configMapRef: {name: settings}
""",
}


def release(version: str = "1.0.0", server_version: str = "0.1.0") -> Release:
    """Return a release whose digests tell its versions."""
    number = version.replace(".", "") + server_version.replace(".", "")
    return Release(
        IMAGE, version, server_version, f"sha256:{number:0<64}", f"sha256:{version.replace('.', ''):f<64}"
    )


@dataclass(frozen=True)
class Clone:
    """A user's clone, and the command run in it."""

    folder: Path

    def git(self, *arguments: str) -> str:
        return subprocess.run(
            ["git", *arguments], cwd=self.folder, check=True, capture_output=True, text=True
        ).stdout.rstrip("\n")

    def write(self, path: Path | str, text: str | bytes) -> Path:
        file = self.folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(text.encode() if isinstance(text, str) else text)
        return file

    def commit(self, message: str) -> str:
        self.git("add", "--all")
        self.git("commit", "--quiet", "-m", message)
        return self.git("rev-parse", "HEAD")

    def hold(self, environment: str, held: Release, model: str = "fraud", push: bool = True) -> str:
        """Put a release in force with plain git."""
        self.write(str(release_file(environment, model)), held.to_bytes())
        commit = self.commit(f"{environment} {model} {held.tag}")
        if push:
            self.git("push", "--quiet", "origin", "HEAD:main")
        return commit

    def run(self, *arguments: str) -> int:
        """Run ``forest-gitops`` here."""
        before = Path.cwd()
        os.chdir(self.folder)
        try:
            return main(list(arguments))
        finally:
            os.chdir(before)

    def holds(self, environment: str, model: str = "fraud", at: str = "HEAD") -> str:
        """Return the tag that a commit holds."""
        path = release_file(environment, model)
        text = self.git("show", f"{at}:{path}") + "\n"
        return Release.from_bytes(text.encode(), str(path)).tag


@pytest.fixture(autouse=True)
def _identity(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for role in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{role}_NAME", "Ada")
        monkeypatch.setenv(f"GIT_{role}_EMAIL", "ada@example.com")
    for name in (
        "ARGOCD_SERVER",
        *(f"MLFLOW_TRACKING_{word}" for word in ("URI", "TOKEN", "USERNAME", "PASSWORD")),
    ):
        monkeypatch.delenv(name, raising=False)
    # What the machine's git is set to must not matter.
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    monkeypatch.setenv("GIT_CONFIG_SYSTEM", os.devnull)


@pytest.fixture
def origin(tmp_path: Path) -> Path:
    """Return a bare repository with models fraud and credit, first releases in both environments."""
    folder = tmp_path / "origin.git"
    subprocess.run(["git", "init", "--quiet", "--bare", "-b", "main", str(folder)], check=True)
    first = tmp_path / "first"
    subprocess.run(["git", "clone", "--quiet", str(folder), str(first)], check=True, capture_output=True)
    clone = Clone(first)
    clone.git("switch", "--quiet", "-c", "main")
    clone.write("README.md", "Ours\n")
    for name, text in BASE.items():
        clone.write(f"kustomize/base/{name}", text)
    for environment in ("staging", "prod"):
        for model in ("fraud", "credit"):
            clone.write(
                f"kustomize/overlays/{environment}/{model}/kustomization.yaml",
                MODEL_KUSTOMIZATION.format(environment=environment),
            )
            clone.write(str(release_file(environment, model)), release().to_bytes())
    clone.commit("Begin")
    clone.git("push", "--quiet", "origin", "main")
    shutil.rmtree(first)
    return folder


@pytest.fixture
def new_clone(origin: Path, tmp_path: Path) -> Callable[[str], Clone]:
    """Return a function that clones the repository."""

    def clone(name: str = "clone") -> Clone:
        subprocess.run(["git", "clone", "--quiet", str(origin), str(tmp_path / name)], check=True)
        return Clone(tmp_path / name)

    return clone


@pytest.fixture
def clone(new_clone: Callable[[str], Clone]) -> Clone:
    """Return a user's clone."""
    return new_clone("clone")


@pytest.fixture
def needs_kustomize() -> None:
    """Skip where manifests cannot be rendered."""
    if not (shutil.which("kustomize") or shutil.which("kubectl")):
        pytest.skip("neither kustomize nor kubectl is on PATH")


@pytest.fixture
def bundle(tmp_path: Path, fraud_bundle: Path) -> Callable[[str], Path]:
    """Return a function that makes a bundle of fraud of any version."""

    def make(version: str) -> Path:
        folder = tmp_path / "models" / "fraud" / version
        shutil.copytree(fraud_bundle, folder)
        manifest = json.loads((folder / "manifest.json").read_bytes())
        manifest["version"] = version
        (folder / "manifest.json").write_text(json.dumps(manifest, indent=2) + "\n")
        return folder

    return make


@pytest.fixture(scope="session")
def release_of() -> Callable[..., Release]:
    """Return the function that makes a release of a version."""
    return release


class Answers(ThreadingHTTPServer):
    """Argo CD's or MLflow's API as the network shows it: an HTTP server that gives the answers it was told.

    Attributes
    ----------
    answers : list
        Documents, or pairs of a status code and a body, in turn; the last one is given again and again.
    asked : list
        Path and Authorization of each request.
    date : datetime
        What its clock says.
    location : str
        Where it leads on to, if anywhere.
    """

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answers: list[Any] = []
        self.asked: list[tuple[str, str | None]] = []
        self.date = datetime(2026, 1, 1, 12, tzinfo=UTC)
        self.location = ""

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    server: Answers

    def do_GET(self) -> None:
        self.server.asked.append((self.path, self.headers["Authorization"]))
        answer = self.server.answers[0]
        if len(self.server.answers) > 1:
            self.server.answers.pop(0)
        if callable(answer):
            answer = answer()
        code, body = answer if isinstance(answer, tuple) else (200, answer)
        data = body.encode() if isinstance(body, str) else json.dumps(body).encode()
        self.send_response_only(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.send_header("Date", format_datetime(self.server.date, usegmt=True))
        if self.server.location:
            self.send_header("Location", self.server.location)
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def argo(monkeypatch: pytest.MonkeyPatch) -> Iterator[Answers]:
    """Return a server that answers as Argo CD does; its token is known, its address is not."""
    monkeypatch.setenv("ARGOCD_AUTH_TOKEN", "a-token")
    with _answering(monkeypatch) as server:
        yield server


@pytest.fixture
def mlflow(monkeypatch: pytest.MonkeyPatch) -> Iterator[Answers]:
    """Return a server that answers as MLflow does."""
    with _answering(monkeypatch) as server:
        yield server


@contextmanager
def _answering(monkeypatch: pytest.MonkeyPatch) -> Iterator[Answers]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with Answers() as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def application(argo: Answers) -> Callable[..., dict[str, Any]]:
    """Return a function that writes an Application as Argo CD 3.2 does: Synced and Healthy for an hour."""

    def ago(**length: float) -> str:
        return (argo.date - timedelta(**length)).strftime("%Y-%m-%dT%H:%M:%SZ")

    def write(
        revision: str, held: Release, name: str = "staging-fraud", *, automated: bool = True, **status: Any
    ) -> dict[str, Any]:
        environment = name.partition("-")[0]
        namespace = f"forest-{environment}"
        source = {
            "repoURL": "https://git.example/forest.git",
            "path": f"kustomize/overlays/{environment}/fraud",
            "targetRevision": "main",
        }
        policy: dict[str, Any] = {"retry": {"limit": 5, "refresh": True}}
        if automated:
            policy["automated"] = {"prune": True, "selfHeal": True}
        workload = {"group": "apps", "version": "v1", "kind": "Deployment", "name": "fraud-forest"}
        scaler = {
            "group": "autoscaling",
            "version": "v2",
            "kind": "HorizontalPodAutoscaler",
            "name": "fraud-forest",
        }
        return {
            "metadata": {
                "name": name,
                "namespace": "argocd",
                "uid": "0e9f7d0c-6b4f-4a4e-9d0e-2f2f9a4c7f11",
                "resourceVersion": "4711",
                "creationTimestamp": ago(days=9),
                "annotations": {"argocd.argoproj.io/manifest-generate-paths": ".;/kustomize/base"},
            },
            "spec": {
                "source": source,
                "destination": {"server": "https://kubernetes.default.svc", "namespace": namespace},
                "project": namespace,
                "syncPolicy": policy,
            },
            "status": {
                "resources": [
                    {"version": "v1", "kind": "ConfigMap", "namespace": namespace,
                     "name": "fraud-forest-9bcmk858gh", "status": "Synced"},
                    {**workload, "namespace": namespace, "status": "Synced",
                     "health": {"status": "Healthy"}},
                    {**scaler, "namespace": namespace, "status": "Synced",
                     "health": {"status": "Healthy", "message": "recommended size matches current size"}},
                ],
                "sync": {"status": "Synced", "comparedTo": {"source": source}, "revision": revision},
                "health": {"status": "Healthy", "lastTransitionTime": ago(hours=1)},
                "history": [
                    {"revision": revision, "deployedAt": ago(hours=1),
                     "deployStartedAt": ago(hours=1, seconds=3),
                     "id": 0, "source": source, "initiatedBy": {"automated": True}},
                ],
                "reconciledAt": ago(seconds=1),
                "operationState": {
                    "operation": {"sync": {"revision": revision, "prune": True}, "retry": {"limit": 5}},
                    "phase": "Succeeded",
                    "message": "successfully synced (all tasks run)",
                    "syncResult": {"revision": revision, "source": source},
                    "startedAt": ago(hours=1, seconds=3),
                    "finishedAt": ago(hours=1),
                },
                "sourceType": "Kustomize",
                "summary": {"images": [held.reference]},
                "resourceHealthSource": "appTree",
                "controllerNamespace": "argocd",
            } | status,
        }  # fmt: skip

    return write
