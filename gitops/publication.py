"""How a change gets on the branch: a commit of one file, made apart from the user's own files, and pushed."""

import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from gitops.error import GitopsError
from gitops.model import write
from gitops.repository import GitError, Repository

# Each lost race is another's push that was accepted, so that somebody always gets on.
_ATTEMPTS = 20


@dataclass(frozen=True, slots=True)
class Destination:
    """The branch that environments follow, and whether to push there.

    Without `branch` it is the one that is checked out. Without `push` the commit stays in this clone.
    """

    remote: str = "origin"
    branch: str | None = None
    push: bool = True


@dataclass(frozen=True, slots=True)
class Published:
    """A commit that is on the branch, and what remains to be said to the user."""

    commit: str
    notes: tuple[str, ...] = ()


def base(repository: Repository, destination: Destination) -> str:
    """Return the commit to build on: the remote branch's newest, or this clone's if nothing is pushed."""
    branch = _branch(repository, destination)
    return _fetch(repository, destination.remote, branch) if destination.push else repository.commit("HEAD")


def writing(files: Mapping[PurePosixPath, bytes], subject: str, body: str) -> Callable[[Repository], None]:
    """Return the change that commits files with the given bytes, for `publish`."""

    def change(tree: Repository) -> None:
        write(tree.folder, files)
        tree.git("add", "--force", "--", *map(str, files))
        tree.git("commit", "--quiet", "-m", subject, "-m", body)

    return change


def publish(
    repository: Repository,
    destination: Destination,
    start: str,
    *,
    paths: Sequence[PurePosixPath],
    change: Callable[[Repository], None],
    also_read: Sequence[PurePosixPath] = (),
) -> Published:
    """Commit a change on top of `start`, and push it.

    Parameters
    ----------
    paths : sequence of paths
        What the change may touch, and must: a release file alone, but for a model's first in prod.
    change : callable
        Given a working tree of its own at `start`, it makes one commit.
    also_read : sequence of paths
        What the change was decided on, besides `paths`: if one of them moves before the push, it is given up.

    Raises
    ------
    GitopsError
        If the push is refused, or another change of the same files came first. Nothing is then changed.
    """
    branch = _branch(repository, destination)
    if not destination.push:
        for path in paths:
            _must_be_clean(repository, path)
    with repository.worktree(start) as tree:
        change(tree)
        touched = tree.touched("HEAD")
        if touched != sorted(map(str, paths)) or tree.commit("HEAD^1") != start:
            raise GitopsError(
                f"the commit would change {', '.join(touched)}, not {', '.join(map(str, paths))} alone: look "
                "at the commit hooks"
            )
        if destination.push:
            _push(tree, destination.remote, branch, start, (*paths, *also_read))
        commit = tree.commit("HEAD")
    return Published(commit, _follow(repository, branch, commit, destination))


def unmoved(repository: Repository, start: str, path: PurePosixPath, branch: str) -> None:
    """Raise `GitopsError` if a file at `start` is not what HEAD says: the user has seen another state."""
    if repository.read("HEAD", path) == repository.read(start, path):
        return
    raise GitopsError(
        f"{path} is not the same here as on {branch}: {_last_change(repository, start, path)}. "
        "Bring this clone up to date (`git pull`), look at `forest-gitops status`, and decide again"
    )


def _push(tree: Repository, remote: str, branch: str, start: str, read: Sequence[PurePosixPath]) -> None:
    for _attempt in range(_ATTEMPTS):
        try:
            tree.git("push", "--quiet", "--no-force", remote, f"HEAD:refs/heads/{branch}")
            return
        except GitError as error:
            newest = _fetch(tree, remote, branch)
            if tree.contains(newest, "HEAD"):
                return  # it had arrived, and only the answer was lost
            if newest == start:
                raise GitopsError(
                    f"{remote} refuses the push to {branch}: {error}. Nothing was changed. Where {branch} is "
                    "protected, use --no-push on a branch of your own and open a pull request"
                ) from error
        for path in read:
            if tree.read(start, path) != tree.read(newest, path):
                raise GitopsError(
                    f"another change of {path} came first: {_last_change(tree, newest, path)}. Nothing was "
                    "changed. Bring this clone up to date (`git pull`), and decide again"
                )
        tree.git("rebase", "--quiet", "--onto", newest, start)
        start = newest
        time.sleep(random.uniform(0, 0.2))  # noqa: S311 - so that racers part
    raise GitopsError(
        f"{remote}/{branch} moved {_ATTEMPTS} times during the push: nothing was changed, try again"
    )


def _follow(repository: Repository, branch: str, commit: str, destination: Destination) -> tuple[str, ...]:
    """Fast-forward the checked-out branch to the commit; git refuses where that would cost anything."""
    if repository.branch() != branch:
        return ()
    try:
        repository.git("-c", "merge.autoStash=false", "merge", "--quiet", "--ff-only", commit)
    except GitError as error:
        if not destination.push:
            raise GitopsError(f"{branch} was not moved to the new commit {commit[:12]}: {error}") from error
        return (
            f"pushed, but {branch} in this clone stays as it was, for it has commits or changes of its own: "
            "`git pull --rebase` when it suits you",
        )
    return ()


def _must_be_clean(repository: Repository, path: PurePosixPath) -> None:
    if changed := repository.git("status", "--porcelain", "--", str(path)):
        raise GitopsError(
            f"{path} has changes that are not committed ({changed[:2].strip()}): "
            f"commit them, or drop them with `git checkout HEAD -- {path}`"
        )


def _branch(repository: Repository, destination: Destination) -> str:
    current = repository.branch()
    branch = destination.branch or current
    if branch is None:
        raise GitopsError("no branch is checked out: `git switch` to one, or name it with --branch")
    if not destination.push and branch != current:
        raise GitopsError(
            f"{branch} is not checked out, so --no-push cannot commit on it: `git switch {branch}`"
        )
    return branch


def _fetch(repository: Repository, remote: str, branch: str) -> str:
    try:
        # FETCH_HEAD is shared by all who work in a clone, so the commit is asked for by name.
        answer = repository.git("ls-remote", "--exit-code", remote, f"refs/heads/{branch}")
        commit = answer.split()[0]
        repository.git("fetch", "--quiet", "--no-write-fetch-head", remote, f"refs/heads/{branch}")
    except GitError as error:
        raise GitopsError(
            f"{branch} cannot be fetched from {remote}: {error}. "
            "Check the remote (`git remote -v`), name the branch that environments follow with --branch, or "
            "commit in this clone alone with --no-push"
        ) from error
    return commit


def _last_change(repository: Repository, commit: str, path: PurePosixPath) -> str:
    return repository.git(
        "log", "-1", "--first-parent", "-m", "--format=%h by %an, %s", commit, "--", str(path)
    )
