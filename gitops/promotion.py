"""A promotion: staging's release file, copied to prod byte for byte."""

import tempfile
from collections.abc import Callable
from pathlib import Path, PurePosixPath

from gitops import history
from gitops.error import GitopsError
from gitops.layout import KUSTOMIZE, OVERLAYS, PROD, STAGING, overlay, release_file
from gitops.model import first_in_prod, write
from gitops.publication import Destination, Published, base, publish, unmoved, writing
from gitops.release import Release
from gitops.rendering import diff, render
from gitops.repository import Repository

Approval = Callable[[Release, str], str]


def promote(
    repository: Repository, destination: Destination, model: str, approval: Approval
) -> tuple[Release, Published | None]:
    """Commit staging's release to prod. None if prod holds it already.

    Parameters
    ----------
    approval : callable
        Given the release and a commit that holds it, it raises `GitopsError` if it must not be promoted, and
        returns what the commit's message says besides.
    """
    start = base(repository, destination)
    path = release_file(PROD, model)
    data, release = _candidate(repository, start, model, destination)
    if repository.read(start, path) == data:
        return release, None
    remark = approval(release, start)

    files = _files(repository, start, model, data)
    body = f"{release.pins}\n\n{remark}".rstrip("\n")
    change = writing(files, f"Promote {model} {release.tag} to {PROD}", body)
    return release, publish(
        repository,
        destination,
        start,
        paths=list(files),
        change=change,
        also_read=[release_file(STAGING, model)],
    )


def preview(repository: Repository, destination: Destination, model: str) -> tuple[Release, str, str]:
    """Return what a promotion would bring, a commit that holds it, and the diff of prod's manifests."""
    start = base(repository, destination)
    data, release = _candidate(repository, start, model, destination)
    with tempfile.TemporaryDirectory(prefix="forest-gitops-") as folder:
        tree = Path(folder)
        repository.export(start, KUSTOMIZE, tree)
        target = overlay(PROD, model)
        before = render(tree, target) if (tree / release_file(PROD, model)).exists() else ""
        write(tree, _files(repository, start, model, data))
        return release, start, diff(before, render(tree, target), str(target))


def taken_back(repository: Repository, release: Release, model: str, tip: str) -> str | None:
    """Return the commit that took this release back from prod, if one did and it has not returned since."""
    path = release_file(PROD, model)
    content = repository.git("rev-parse", f"{tip}:{release_file(STAGING, model)}")
    changes = history.steps(repository, tip, path)
    if content in [step.blob for step in history.in_force(changes)]:
        return None
    held = [number for number, step in enumerate(changes) if step.blob == content]
    return changes[held[-1] + 1].commit if held else None


def _files(repository: Repository, start: str, model: str, data: bytes) -> dict[PurePosixPath, bytes]:
    """Return what a promotion writes: prod's release file, and the whole overlay if this is the first."""
    if repository.read(start, overlay(PROD, model) / "kustomization.yaml") is not None:
        return {release_file(PROD, model): data}
    return first_in_prod(repository.files(start, OVERLAYS), model)


def _candidate(
    repository: Repository, start: str, model: str, destination: Destination
) -> tuple[bytes, Release]:
    staging = release_file(STAGING, model)
    data = repository.read(start, staging)
    if data is None:
        raise GitopsError(
            f"{STAGING} holds no release of {model} ({staging} is not in {start[:12]}): "
            f"`forest-gitops release {model} …` first"
        )
    where = f"{destination.remote}'s branch" if destination.push else "HEAD"
    for path in (staging, release_file(PROD, model)):
        unmoved(repository, start, path, where)
        if changed := repository.git("status", "--porcelain", "--", str(path)):
            raise GitopsError(
                f"{path} has changes that are not committed ({changed[:2].strip()}), and only what "
                f"{STAGING} holds at HEAD is promoted: commit them, or drop them with "
                f"`git checkout HEAD -- {path}`"
            )
    return data, Release.from_bytes(data, f"{staging} at {start[:12]}")
