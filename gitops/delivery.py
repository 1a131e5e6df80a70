"""Whether an environment runs a release: what Git holds, and what Argo CD says has come of it."""

import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from gitops.argocd import Application, ArgoCD
from gitops.error import GitopsError
from gitops.layout import release_file
from gitops.release import Release
from gitops.repository import GitError, Repository
from gitops.service import ServiceError

# Seconds that staging must have had a release in health, unless another time is stated.
SOAK = 600.0
# Seconds between two looks.
INTERVAL = 3.0
# Seconds that an answer may take, however little time is left.
_LEAST = 10.0
# A commit that brings back an older release may find the Degraded of the newer one for a moment.
_LOOKS_TO_FAIL = 2
# Degraded for its first half minute, until there are figures.
_SLOW_TO_BE_HEALTHY = {"HorizontalPodAutoscaler"}
_COMMIT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Wanted:
    """A release that an environment should run, and a commit that holds it."""

    environment: str
    model: str
    release: Release
    commit: str

    @property
    def path(self) -> PurePosixPath:
        """The file that says so."""
        return release_file(self.environment, self.model)

    def __str__(self) -> str:
        return f"{self.model} {self.release.tag}"


@dataclass(slots=True)
class Commits:
    """What the commits that Argo CD names hold: looked up in this clone, and fetched where it lacks one."""

    repository: Repository
    remote: str
    _held: dict[tuple[str, PurePosixPath], bytes | None] = field(default_factory=dict)

    def known(self, commit: str) -> bool:
        """Whether the commit is here, or could be fetched."""
        if not _COMMIT.fullmatch(commit):
            return False
        if not self.repository.knows(commit):
            try:
                self.repository.git("fetch", "--quiet", "--no-write-fetch-head", self.remote)
            except GitError:
                return False
        return self.repository.knows(commit)

    def hold(self, commit: str, wanted: Wanted) -> bool:
        """Whether a commit's release file is, byte for byte, the wanted release's."""
        key = (commit, wanted.path)
        if key not in self._held:
            if not self.known(commit):
                return False
            self._held[key] = self.repository.read(commit, wanted.path)
        return self._held[key] == wanted.release.to_bytes()


@dataclass(frozen=True, slots=True)
class _State:
    """How far a release is; `final` if waiting is of no use, whoever is to blame."""

    text: str
    arrived: bool = False
    failed: bool = False
    final: bool = False


def wait(
    argocd: ArgoCD, commits: Commits, wanted: Sequence[Wanted], limit: float, say: Callable[[str], None]
) -> None:
    """Wait until each environment's Application is Synced and Healthy on a commit that holds its release.

    Parameters
    ----------
    limit : float
        Seconds to wait at most.
    say : callable
        Is told how far each has come, whenever that changes.

    Raises
    ------
    GitopsError
        If Argo CD says that it will not come, or time is up.
    """
    deadline = time.monotonic() + limit
    open_ = list(wanted)
    said: dict[Wanted, str] = {}
    failures: dict[Wanted, int] = {}
    while True:
        for each in list(open_):
            left = max(_LEAST, deadline - time.monotonic())
            state = _look(argocd, commits, each, left)
            name = f"{each.environment}-{each.model}"
            if said.get(each) != state.text:
                say(f"{name}: {state.text}")
                said[each] = state.text
            if state.arrived:
                open_.remove(each)
            failures[each] = failures.get(each, 0) + 1 if state.failed else 0
            if state.final or failures[each] >= _LOOKS_TO_FAIL:
                raise GitopsError(
                    f"{name}: {state.text}. {_way_out(each) if state.failed else ''}".rstrip(". ")
                )
        if not open_:
            return
        if time.monotonic() + INTERVAL > deadline:
            rest = "; ".join(f"{each.environment}-{each.model}: {said[each]}" for each in open_)
            raise GitopsError(
                f"after {span(limit)} still not there: {rest}. Nothing was taken back; `forest-gitops status "
                "--wait` waits on"
            )
        time.sleep(INTERVAL)


def soaked(argocd: ArgoCD, commits: Commits, wanted: Wanted, soak: float) -> str:
    """Return since when staging has run a release in health.

    That is the later of two moments: when the Application's health last became another, and when the first
    sync had finished of those, up to now without another release in between, that brought this very release.

    Raises
    ------
    GitopsError
        If Argo CD does not say Synced and Healthy, or not for `soak` seconds yet.
    """
    application = argocd.application(wanted.environment, wanted.model)
    state = _judge(application, commits, wanted)
    if not state.arrived:
        raise GitopsError(
            f"{wanted.environment} does not run {wanted} in health: {application.name}: {state.text}"
        )
    brought = None
    for sync in reversed(application.history):
        if not commits.hold(sync.revision, wanted):
            break
        brought = sync
    if brought is None:
        raise GitopsError(
            f"Argo CD's history tells of no sync of {application.name} that brought {wanted}, so since when "
            f"it runs is not known: sync it once (`argocd app sync {application.name}`), and wait again"
        )
    if application.health_since is None:
        raise GitopsError(
            f"Argo CD does not say since when {application.name} is Healthy: is it 3.2 or newer?"
        )
    since = max(brought.finished, application.health_since)
    age = (application.asked - since).total_seconds()
    if age < soak:
        raise GitopsError(
            f"{wanted.environment} has run {wanted} in health for {span(max(0.0, age))} only, since "
            f"{since.isoformat()}, and {span(soak)} are asked for: {span(soak - age)} are left"
        )
    return f"{wanted.environment} has run {wanted} Synced and Healthy since {since.isoformat()}"


def span(seconds: float) -> str:
    """Return a length of time as text, to the second."""
    minutes, rest = divmod(round(seconds), 60)
    return " ".join([f"{minutes} min"] * bool(minutes) + [f"{rest} s"] * bool(rest or not minutes))


def _way_out(wanted: Wanted) -> str:
    return (
        f"{wanted} stays in Git: mend what ails it, or take it back with "
        f"`forest-gitops rollback {wanted.model} --env {wanted.environment}`"
    )


def _look(argocd: ArgoCD, commits: Commits, wanted: Wanted, patience: float) -> _State:
    try:
        application = argocd.application(wanted.environment, wanted.model, patience)
    except ServiceError as error:
        if not error.passing:
            raise
        return _State(str(error))
    return _judge(application, commits, wanted)


def _judge(application: Application, commits: Commits, wanted: Wanted) -> _State:
    revision = application.revision
    if not commits.hold(revision, wanted):
        return _elsewhere(application, commits, wanted)
    where = f"{application.sync}, {application.health} on {revision[:12]}"
    there = application.sync == "Synced" and application.health == "Healthy" and not application.syncing
    if there and wanted.release.reference in application.images:
        return _State(where, arrived=True)
    if there:
        return _State(
            f"{where}, but no pod runs {wanted.release.reference}: does the Application itself name an image?"
        )
    if fault := _fault(application, commits, wanted):
        return _State(f"{where}: {fault}", failed=True)
    return _State(f"{where}{_why_not_yet(application)}")


def _elsewhere(application: Application, commits: Commits, wanted: Wanted) -> _State:
    """Argo CD compares with a commit that holds something else: an earlier one, or a later one."""
    revision = application.revision
    if not revision:
        return _State(f"compared with no commit yet{_why_not_yet(application)}")
    if not commits.known(revision):
        return _State(
            f"compared with {revision[:12]}, which is not in this clone, nor on a branch of {commits.remote}"
        )
    if commits.repository.contains(revision, wanted.commit):
        return _State(
            f"{revision[:12]} holds another release than {wanted}: another change came first; look at "
            "`forest-gitops status` after a `git pull`",
            final=True,
        )
    return _State(f"still compared with {revision[:12]}, which does not hold {wanted}")


def _fault(application: Application, commits: Commits, wanted: Wanted) -> str:
    """Return why a release that Argo CD knows will not come, empty if nothing says so."""
    operation = application.operation
    if operation and operation.phase in ("Failed", "Error") and commits.hold(operation.revision, wanted):
        return f"the sync ended as {operation.phase}: {operation.message}"
    if said := application.conditions.get("SyncError"):
        return said
    if application.health != "Degraded":
        return ""
    # An object that is Synced was compared with this commit: what ails it is not an earlier release's.
    return "; ".join(
        f"{resource.kind} {resource.name} is Degraded: {resource.message}"
        for resource in application.resources
        if resource.sync == "Synced"
        and resource.health == "Degraded"
        and resource.kind not in _SLOW_TO_BE_HEALTHY
    )


def _why_not_yet(application: Application) -> str:
    operation = application.operation
    if application.syncing:
        return f": syncing: {operation.message}" if operation and operation.message else ": syncing"
    complaints = [f"{kind}: {message}" for kind, message in application.conditions.items()]
    complaints += [
        f"{resource.kind} {resource.name} is {resource.health}: {resource.message}"
        for resource in application.resources
        if resource.health not in ("", "Healthy") and resource.message
    ]
    if application.sync == "OutOfSync" and not application.automated:
        complaints.append("it waits for someone to press Sync")
    return "".join(f": {complaint}" for complaint in complaints[:1])
