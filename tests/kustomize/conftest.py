"""Rendered manifests, for the tests of kustomize/ and argocd/."""

import shutil
import subprocess
from collections.abc import Callable
from functools import cache
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import pytest
import yaml

from gitops.model import begin, first_in_prod, write
from gitops.release import Release

ROOT = Path(__file__).parents[2]
# Where libyaml is there, ten times faster.
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

Manifest = dict[str, Any]


class Rendered:
    """What a folder renders to.

    Attributes
    ----------
    text : str
        As the tool prints it.
    objects : list of dict
        The same, read.
    """

    def __init__(self, text: str):
        self.text = text
        self.objects: list[Manifest] = list(yaml.load_all(text, _LOADER))

    def of(self, kind: str) -> list[Manifest]:
        """Return the objects of a kind."""
        return [each for each in self.objects if each["kind"] == kind]

    def one(self, kind: str, name: str | None = None) -> Manifest:
        """Return the only object of a kind, or the one of that name."""
        (found,) = [each for each in self.of(kind) if name in (None, each["metadata"]["name"])]
        return found


class Overlay(NamedTuple):
    """One model in one environment."""

    environment: str
    model: str

    def folder(self, root: Path = ROOT) -> Path:
        """Return its folder, below a repository's root."""
        return root / "kustomize" / "overlays" / self.environment / self.model


OVERLAYS = [
    Overlay(file.parts[-3], file.parts[-2])
    for file in sorted(ROOT.glob("kustomize/overlays/*/*/kustomization.yaml"))
]


def _render(folder: Path) -> Rendered:
    if kustomize := shutil.which("kustomize"):
        command = [kustomize, "build"]
    elif kubectl := shutil.which("kubectl"):
        command = [kubectl, "kustomize"]
    else:
        pytest.skip("neither kustomize nor kubectl is on PATH")
    done = subprocess.run([*command, str(folder)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert not done.stderr, "a warning: " + done.stderr
    return Rendered(done.stdout)


@pytest.fixture(scope="session")
def render() -> Callable[[Path], Rendered]:
    """Return a function that renders a folder by the real kustomize. It renders anew each time."""
    return _render


@pytest.fixture(scope="session")
def rendered() -> Callable[[str], Rendered]:
    """Return a function that renders a folder of this repository, once."""
    return cache(lambda folder: _render(ROOT / folder))


@pytest.fixture(scope="session")
def overlays() -> list[Overlay]:
    """Return every model of every environment."""
    return OVERLAYS


@pytest.fixture(params=OVERLAYS, ids=lambda overlay: f"{overlay.environment}-{overlay.model}")
def overlay(request: pytest.FixtureRequest) -> Overlay:
    """Return each model of each environment."""
    return request.param


@pytest.fixture
def manifests(overlay: Overlay, rendered: Callable[[str], Rendered]) -> Rendered:
    """Return what an overlay renders to."""
    return rendered(str(overlay.folder().relative_to(ROOT)))


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Return the root of a copy, to change: it has kustomize/ only."""
    shutil.copytree(ROOT / "kustomize", tmp_path / "kustomize")
    return tmp_path


@pytest.fixture
def switch_on(tree: Path, render: Callable[[Path], Rendered], overlay: Overlay) -> Callable[..., Rendered]:
    """Return a function that lists components in an overlay of the copy, and renders it."""

    def run(*names: str) -> Rendered:
        file = overlay.folder(tree) / "kustomization.yaml"
        lines = "".join(f"  - ../../../components/{name}\n" for name in names)
        file.write_text(file.read_text().replace("components:\n", "components:\n" + lines))
        return render(overlay.folder(tree))

    return run


@pytest.fixture
def promote_first(tree: Path) -> Callable[[str], None]:
    """Return a function that brings a model to the copy's prod, as its first promotion does."""

    def promote(model: str) -> None:
        files = {
            PurePosixPath(file.relative_to(tree).as_posix()): file.read_bytes()
            for file in (tree / "kustomize" / "overlays").rglob("*.yaml")
        }
        write(tree, first_in_prod(files, model))

    return promote


@pytest.fixture
def add_model(tree: Path, promote_first: Callable[[str], None]) -> Callable[[str], None]:
    """Return a function that adds a model to the copy, as `forest-gitops new` and a first promotion do."""

    def add(model: str) -> None:
        digest = "sha256:" + "3" * 64
        begin(tree, model, Release(f"registry.example/forest/{model}", "1.0.0", "0.1.0", digest, digest))
        promote_first(model)

    return add


def pytest_addoption(parser: pytest.Parser) -> None:
    """Let `make golden` write what the tests compare with."""
    parser.addoption("--refresh-golden", action="store_true", help="write tests/kustomize/golden anew")
