"""What runs where, since when, and by whom: as Git says."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from gitops import history
from gitops.delivery import Wanted
from gitops.error import GitopsError
from gitops.layout import OVERLAYS, release_file
from gitops.release import Release
from gitops.repository import GitError, Repository


@dataclass(frozen=True, slots=True)
class Row:
    """The release of one model in one environment; `since` is the date of the commit that brought it."""

    model: str
    environment: str
    version: str
    tag: str
    digest: str
    bundle: str
    since: str
    by: str
    commit: str


def rows(
    repository: Repository, model: str | None = None, environment: str | None = None
) -> tuple[list[Row], list[str]]:
    """Return what HEAD holds, by model, then environment; of one of either, if it is given.

    Beside the rows it returns what cannot be told, for a hand wrote it.
    """
    tip = repository.commit("HEAD")
    found = []
    for line in repository.git("ls-tree", "-r", "--name-only", tip, "--", str(OVERLAYS)).splitlines():
        parts = line.removeprefix(f"{OVERLAYS}/").split("/")
        if len(parts) == 4 and parts[2:] == ["release", "kustomization.yaml"]:
            found.append((parts[1], parts[0]))
    if not found:
        raise GitopsError(
            f"{OVERLAYS}/*/*/release/kustomization.yaml: HEAD ({tip[:12]}) holds no release at all: is this "
            "the right repository and branch?"
        )
    chosen = [pair for pair in found if model in (None, pair[0]) and environment in (None, pair[1])]
    if not chosen:
        raise GitopsError(
            f"HEAD ({tip[:12]}) holds no release of {model or 'any model'} in "
            f"{environment or 'any environment'}: it holds "
            f"{', '.join(f'{held} in {place}' for held, place in sorted(found))}"
        )
    told, faults = [], []
    for pair in sorted(chosen, key=lambda pair: (pair[0], pair[1] == "prod", pair[1])):
        try:
            told.append(_row(repository, tip, *pair))
        except GitopsError as error:
            faults.append(str(error))
    return told, faults


def wanted(repository: Repository, found: Sequence[Row]) -> list[Wanted]:
    """Return the releases of some rows, as what to wait for."""
    tip = repository.commit("HEAD")
    return [
        Wanted(row.environment, row.model, _release(repository, tip, row.model, row.environment), tip)
        for row in found
    ]


def behind(repository: Repository) -> str | None:
    """Say if the branch's upstream, as last fetched, has commits that are not here."""
    try:
        missing = int(repository.git("rev-list", "--count", "HEAD..@{upstream}"))
    except GitError:
        return None  # no upstream
    return f"HEAD is {missing} commits behind its upstream: `git pull`" if missing else None


def table(found: Sequence[Row]) -> str:
    """Return the rows as text, in columns."""
    head = ("MODEL", "ENVIRONMENT", "VERSION", "TAG", "DIGEST", "SINCE", "BY", "COMMIT")
    lines = [head] + [
        (
            row.model,
            row.environment,
            row.version,
            row.tag,
            row.digest[:19],
            row.since,
            row.by,
            row.commit[:12],
        )
        for row in found
    ]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


def document(found: Sequence[Row]) -> list[dict[str, Any]]:
    """Return the rows for JSON, nothing shortened."""
    return [asdict(row) for row in found]


def _row(repository: Repository, tip: str, model: str, environment: str) -> Row:
    step = history.steps(repository, tip, release_file(environment, model))[-1]
    release = _release(repository, tip, model, environment)
    return Row(
        model, environment, release.version, release.tag, release.digest, release.bundle,
        step.date, step.author, step.commit,
    )  # fmt: skip


def _release(repository: Repository, tip: str, model: str, environment: str) -> Release:
    path = release_file(environment, model)
    return Release.from_bytes(repository.read(tip, path) or b"", f"{path} at {tip[:12]}")
