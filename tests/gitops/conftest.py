"""A house with Git in it: a bare repository that environments follow, and clones of it."""

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

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
