"""What Git knows of a release file: every state it had, and the releases that a rollback can step through."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from gitops.release import Release
from gitops.repository import Repository

_ABSENT = "0" * 40


@dataclass(frozen=True, slots=True)
class Step:
    """A commit on the branch that changed a release file; `blob` is the new content's name, or None."""

    commit: str
    author: str
    date: str
    blob: str | None


def steps(repository: Repository, tip: str, path: PurePosixPath) -> list[Step]:
    """Return every change of a file, oldest first.

    The branch itself is followed, and what was merged into it counts as one change: so a pull request of one
    commit is one, whether it was merged or squashed. But a merge that brought several changes of the file is
    taken apart: most often it is a `git pull` that made the branch itself the merged side.
    """
    log = repository.git(
        "log", "--first-parent", "-m", "--raw", "--no-abbrev", "--no-renames", "--reverse",
        "--format=%x01%H%x00%P%x00%an%x00%cI", tip, "--", str(path),
    )  # fmt: skip
    found = []
    for entry in log.split("\x01")[1:]:
        head, _, raw = entry.partition("\n")
        commit, parents, author, date = head.split("\0")
        blob = raw.split()[3]
        step = Step(commit, author, date, None if blob == _ABSENT[: len(blob)] else blob)
        merged = steps(repository, f"{commit}^1..{commit}^2", path) if " " in parents else []
        if len(merged) > 1 and merged[-1].blob == step.blob:
            found += merged
        else:
            found.append(step)
    return found


def in_force(changes: Sequence[Step]) -> list[Step]:
    """Return the releases that stand on one another, the one in force last.

    A change that brings an earlier content back takes away all that came after it: whoever made it, by
    `git revert`, by this tool, or by promoting the old release again. So what was once taken back is not met
    again on the way down.
    """
    standing: list[Step] = []
    for step in changes:
        contents = [below.blob for below in standing]
        if step.blob is None:
            standing.clear()
        elif step.blob in contents:
            del standing[contents.index(step.blob) + 1 :]
        else:
            standing.append(step)
    return standing


def read(repository: Repository, step: Step, path: PurePosixPath) -> Release:
    """Return the release that a change put in force."""
    data = repository.read(step.commit, path)
    return Release.from_bytes(data or b"", f"{path} at {step.commit[:12]}")
