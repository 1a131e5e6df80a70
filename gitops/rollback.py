"""A rollback: the revert of the commit that put a release in force, for one model in one environment."""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from gitops import history
from gitops.error import GitopsError
from gitops.history import Step
from gitops.layout import KUSTOMIZE, overlay, release_file
from gitops.manifests import Manifest, containers, pod_templates, read, variables
from gitops.model import write
from gitops.publication import Destination, Published, base, publish, unmoved
from gitops.release import CONTAINER, Release
from gitops.rendering import render
from gitops.repository import GitError, Repository


@dataclass(frozen=True, slots=True)
class RolledBack:
    """What a rollback took away, what it brought back, and what the user must know."""

    taken: Release | None
    back: Release
    published: Published | None
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Target:
    """The state to return to: the step that first put it in force, and the last commit that still held it."""

    step: Step
    last: str


def rollback(
    repository: Repository, destination: Destination, model: str, environment: str, to: str | None = None
) -> RolledBack:
    """Take the release in force back, one step; or go to the earlier release `to`, a version or a tag.

    Raises
    ------
    GitopsError
        If there is nothing to go back to, or the revert does not apply. Nothing is then changed.
    """
    start = base(repository, destination)
    path = release_file(environment, model)
    changes = history.steps(repository, start, path)
    if not changes:
        raise GitopsError(f"{environment} holds no release of {model}: {path} is not in {start[:12]}")
    if changes[-1].blob is None and to is None:
        raise GitopsError(
            f"{environment} holds no release of {model}: {changes[-1].author} deleted {path} in "
            f"{changes[-1].commit[:12]}. To bring one back, name it: --to VERSION"
        )
    unmoved(repository, start, path, f"{destination.remote}'s branch" if destination.push else "HEAD")
    standing = history.in_force(changes)
    top = standing[-1] if standing else changes[-1]
    taken = _written(repository, top, path)
    notes: list[str] = []
    if to is not None:
        target = _earlier(repository, changes, path, to=to, model=model, environment=environment)
        if target.step.blob == top.blob:
            return RolledBack(taken, history.read(repository, top, path), None, ())
        if standing and target.step.blob not in [step.blob for step in standing]:
            notes.append(f"{to} had been taken back itself, and returns because --to names it")
    else:
        below, skipped = _below(repository, standing, path)
        if below is None:
            raise GitopsError(_first(repository, changes, path, model, environment))
        target = below
        if skipped:
            notes.append(f"passed over, for no release can be read there: {_some(skipped)}")
    back = history.read(repository, target.step, path)
    notes += _pods(repository, start, target.last, overlay(environment, model), back, taken=taken)

    others = [] if to else [name for name in repository.touched(top.commit) if name != str(path)]
    if others:
        notes.append(
            f"{top.commit[:12]} also changed {_some(others)}, which stay as they are: "
            f"only {path} was brought back"
        )
    reverts = to is None and not others and target.last == repository.commit(f"{top.commit}^1")

    def change(tree: Repository) -> None:
        above = taken.tag if taken else "a file edited by hand" if top.blob else "no release"
        title = f"Roll back {model} in {environment} from {above} to {back.tag}"
        facts = f"Image: {back.reference}\nBundle: {back.bundle}"
        if reverts:
            _revert(tree, top.commit, path)
            said = f"This reverts commit {top.commit}."
            tree.git("commit", "--quiet", "--amend", "-m", title, "-m", said, "-m", facts)
        else:
            tree.git("checkout", target.last, "--", str(path))
            said = f"This brings {path} back as commit {target.last} holds it."
            tree.git("commit", "--quiet", "-m", title, "-m", said, "-m", facts)

    published = publish(repository, destination, start, paths=[path], change=change)
    return RolledBack(taken, back, published, (*notes, *published.notes))


def _below(
    repository: Repository, standing: Sequence[Step], path: PurePosixPath
) -> tuple[_Target | None, list[str]]:
    """Return the release below the one in force, None if there is none; and what lies between, unreadable."""
    skipped = []
    for step in reversed(standing[:-1]):
        if _written(repository, step, path) is None:
            skipped.append(step.commit[:12])
            continue
        last = repository.commit(f"{standing[-1].commit}^1")
        same = not skipped and repository.read(last, path) == repository.read(step.commit, path)
        return _Target(step, last if same else step.commit), skipped
    return None, skipped


def _revert(tree: Repository, commit: str, path: PurePosixPath) -> None:
    merge = len(tree.git("rev-list", "--parents", "-n", "1", commit).split()) > 2
    try:
        tree.git("revert", "--no-edit", *(("-m", "1") if merge else ()), commit)
    except GitError as error:
        raise GitopsError(
            f"the revert of {commit[:12]} does not apply to {path}: {error}. Something changed the file "
            "outside its releases; nothing was changed now. Name the release to return to: --to VERSION"
        ) from error


def _earlier(
    repository: Repository,
    changes: Sequence[Step],
    path: PurePosixPath,
    *,
    to: str,
    model: str,
    environment: str,
) -> _Target:
    """Return the newest state of the file that is of the version or tag `to`."""
    known: dict[str, None] = {}
    for number, step in reversed(list(enumerate(changes))):
        if step.blob is None:
            continue
        release = _written(repository, step, path)
        if release is None:
            continue
        if to in (release.version, release.tag):
            last = f"{changes[number + 1].commit}^1" if number + 1 < len(changes) else step.commit
            return _Target(step, repository.commit(last))
        known[release.tag] = None
    raise GitopsError(
        f"{environment} never held {model} {to}: it held {', '.join(known) or 'no release'}"
        f"{_unseen(repository)}"
    )


def _written(repository: Repository, step: Step, path: PurePosixPath) -> Release | None:
    """Return a step's release, or None if a hand wrote something else: that can be taken back as well."""
    try:
        return history.read(repository, step, path)
    except GitopsError:
        return None


def _first(
    repository: Repository, changes: Sequence[Step], path: PurePosixPath, model: str, environment: str
) -> str:
    held = dict.fromkeys(
        release.tag for step in changes if step.blob and (release := _written(repository, step, path))
    )
    held_now = _written(repository, changes[-1], path)
    now = held_now.tag if held_now else "what a hand wrote"
    taken = [tag for tag in held if tag != now]
    later = (
        f"`--to VERSION` returns to one that was taken back ({', '.join(taken)}), or "
        if taken
        else "replace it: "
    )
    return (
        f"{now} is the first release of {model} in {environment}{_unseen(repository)}, so nothing stands "
        f"below it, and a revert would delete {path}, without which "
        f"{overlay(environment, model)} does not build. "
        f"To get rid of it, {later}bring a new one by `forest-gitops release` and `promote`"
    )


def _unseen(repository: Repository) -> str:
    if repository.shallow():
        return " as far as this shallow clone knows (`git fetch --unshallow` brings the rest)"
    return ""


def _pods(
    repository: Repository,
    start: str,
    last: str,
    folder: PurePosixPath,
    back: Release,
    *,
    taken: Release | None,
) -> list[str]:
    """Say whether the pods will be the very same as when the release last ran; and what they may not know."""
    try:
        with tempfile.TemporaryDirectory(prefix="forest-gitops-") as temporary:
            then, now = Path(temporary) / "then", Path(temporary) / "now"
            for commit, tree in ((last, then), (start, now)):
                tree.mkdir()
                repository.export(commit, KUSTOMIZE, tree)
            write(now, {folder / "release" / "kustomization.yaml": back.to_bytes()})
            before, after = read(render(then, folder)), read(render(now, folder))
    except (GitopsError, GitError) as error:
        return [f"whether the pods will be the very same was not checked: {error}"]
    if pod_templates(before) == pod_templates(after):
        return []
    changed = repository.git("diff", "--name-only", last, start, "--", str(KUSTOMIZE)).splitlines()
    others = [name for name in changed if not name.endswith("/release/kustomization.yaml")]
    notes = [
        f"the pods will not be the very same as when {back.tag} last ran, for the environment's own files "
        f"changed since ({_some(others)}): expect a new ReplicaSet, with {back.tag} in it"
    ]
    new = sorted(_settings(after) - _settings(before))
    # What the server in force runs with, another of its version knows as well.
    if new and (taken is None or taken.server_version != back.server_version):
        notes.append(
            f"{', '.join(new)} came into the settings since {back.tag} last ran, and a server refuses to "
            f"start with a setting that it does not know: if {back.server_version} is too old for that, take "
            "it out of kustomize/ before the sync"
        )
    return notes


def _settings(manifests: Sequence[Manifest]) -> set[str]:
    """Return the names of the variables that the server gets."""
    return {
        name
        for template in pod_templates(manifests).values()
        for container in containers(template)
        if container["name"] == CONTAINER
        for name in variables(manifests, container)
    }


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
