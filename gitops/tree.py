"""The tree under ``kustomize/``, rendered: what the rules look at."""

import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from gitops import manifests
from gitops.error import GitopsError
from gitops.layout import APPS, KUSTOMIZE, OVERLAYS, release_file
from gitops.manifests import Manifest
from gitops.release import Release
from gitops.rendering import render
from gitops.repository import Repository


@dataclass(frozen=True, slots=True)
class Overlay:
    """One model in one environment; `release` is None where the release file cannot be read.

    What runs beside the models is one as well: of no environment, with its own name for a model's.
    """

    environment: str
    model: str
    folder: PurePosixPath
    manifests: Sequence[Manifest]
    release: Release | None


@dataclass(frozen=True, slots=True)
class Tree:
    """All overlays, as the working tree has them; in `overlays` and `apps` only those that build.

    Attributes
    ----------
    root : Path
        The repository's folder.
    environments : mapping
        What ``kustomize/overlays/<env>`` renders to, by environment.
    elsewhere : mapping
        Why an environment, or what runs beside the models, is not the same in a folder that holds the files
        Git knows of and nothing else, by folder; empty where it is.
    before : mapping
        What environments rendered to at the commit compared with, by environment; empty without one.
    failures : sequence
        Folders that do not build, each with what kustomize says.
    """

    repository: Repository
    root: Path
    folders: Sequence[PurePosixPath]
    overlays: Sequence[Overlay]
    apps: Sequence[Overlay]
    environments: Mapping[str, Sequence[Manifest]]
    elsewhere: Mapping[PurePosixPath, str]
    before: Mapping[str, Sequence[Manifest]]
    failures: Sequence[tuple[PurePosixPath, str]]


@contextmanager
def read(repository: Repository, against: str | None) -> Iterator[Tree]:
    """Render everything, and compare with the commit `against`, if there is one."""
    root = repository.folder
    folders, apps = _folders(root, OVERLAYS, "*/*"), _folders(root, APPS, "*")
    if not folders:
        raise GitopsError(f"{OVERLAYS}/<environment>/<model> holds no overlay: is this the right repository?")
    whole = sorted({folder.parent for folder in folders})
    with tempfile.TemporaryDirectory(prefix="forest-gitops-") as temporary, ThreadPoolExecutor() as pool:
        copy, past = Path(temporary) / "copy", Path(temporary) / "past"
        _copy(repository, copy)
        past.mkdir()
        if against and repository.git("ls-tree", against, "--", str(KUSTOMIZE)):
            repository.export(against, KUSTOMIZE, past)
        now = list(pool.map(lambda folder: _try(root, folder), [*folders, *whole, *apps]))
        # An environment holds all of its overlays, which a rule sees to, and takes no longer than one.
        then = list(pool.map(lambda folder: _try(past, folder), whole))
        elsewhere = list(pool.map(lambda folder: _try(copy, folder), [*whole, *apps]))
        rendered = {folder: text for folder, text, _ in now if text is not None}
        yield Tree(
            repository,
            root,
            folders,
            [_overlay(root, folder, rendered[folder]) for folder in folders if folder in rendered],
            [
                Overlay("", folder.name, folder, manifests.read(rendered[folder]), None)
                for folder in apps
                if folder in rendered
            ],
            {folder.name: manifests.read(rendered[folder]) for folder in whole if folder in rendered},
            {
                folder: error or ("" if text == rendered[folder] else "it renders otherwise")
                for folder, text, error in elsewhere
                if folder in rendered
            },
            {folder.name: manifests.read(text) for folder, text, _ in then if text is not None},
            [(folder, error) for folder, _, error in now if error],
        )


def overlay(root: Path, folder: PurePosixPath) -> Overlay:
    """Return one overlay, rendered."""
    return _overlay(root, folder, render(root, folder))


def _folders(root: Path, below: PurePosixPath, pattern: str) -> list[PurePosixPath]:
    files = (root / below).glob(f"{pattern}/kustomization.yaml")
    return sorted(PurePosixPath(file.parent.relative_to(root).as_posix()) for file in files)


def _try(root: Path, folder: PurePosixPath) -> tuple[PurePosixPath, str | None, str]:
    if not (root / folder / "kustomization.yaml").exists():
        return folder, None, f"{folder} has no kustomization.yaml: write one"
    try:
        return folder, render(root, folder), ""
    except GitopsError as error:
        return folder, None, str(error)


def _copy(repository: Repository, folder: Path) -> None:
    """Copy the files that are in Git, or would be by `git add --all`."""
    names = repository.git(
        "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", str(KUSTOMIZE)
    ).split("\0")
    for name in filter(None, names):
        source, target = repository.folder / name, folder / name
        if source.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target)


def _overlay(root: Path, folder: PurePosixPath, rendered: str) -> Overlay:
    environment, model = folder.parent.name, folder.name
    path = release_file(environment, model)
    try:
        release = Release.from_bytes((root / path).read_bytes(), str(path))
    except (OSError, GitopsError):
        release = None  # the rules on release files say why
    return Overlay(environment, model, folder, manifests.read(rendered), release)
