"""Releases that are waited for, and promotions that Argo CD has a say in."""

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from gitops import delivery
from gitops.layout import release_file
from gitops.release import Release

DIGEST = "sha256:" + "a" * 64
STAGING = str(release_file("staging", "fraud"))
NOW = datetime(2026, 5, 4, 12, tzinfo=UTC)
LATE = 'Deployment "fraud-forest" exceeded its progress deadline'


@pytest.fixture(autouse=True)
def _quick(argo: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delivery, "INTERVAL", 0.02)
    argo.date = NOW


def ago(**length: float) -> str:
    return (NOW - timedelta(**length)).strftime("%Y-%m-%dT%H:%M:%SZ")


def synced(*revisions: str, minutes: float) -> list[dict[str, Any]]:
    """Return a history, oldest first, a minute between two; the last finished so many minutes ago."""
    return [
        {"id": number, "revision": revision, "deployedAt": ago(minutes=minutes + len(revisions) - 1 - number)}
        for number, revision in enumerate(revisions)
    ]


def healthy(**length: float) -> dict[str, str]:
    return {"status": "Healthy", "lastTransitionTime": ago(**length)}


def operation(phase: str, revision: str, message: str = "") -> dict[str, Any]:
    return {
        "operation": {"sync": {"revision": revision}},
        "phase": phase,
        "message": message,
        "syncResult": {"revision": revision},
        "startedAt": ago(seconds=9),
    }


def resources(**health: str) -> list[dict[str, Any]]:
    """Return resources that are Synced, by kind and health."""
    return [
        {
            "kind": kind,
            "name": "fraud-forest",
            "status": "Synced",
            "health": {"status": said, "message": f"{said}!"},
        }
        for kind, said in health.items()
    ]


# --- promote


@pytest.fixture
def promote(clone: Any, argo: Any, release_of: Callable[..., Release]) -> Callable[..., int]:
    """Return a function that promotes what staging holds, 1.1.0, by an Argo CD that says what it is given."""
    clone.hold("staging", release_of("1.1.0"))

    def run(answer: Any, *more: str) -> int:
        argo.answers = [answer]
        return int(clone.run("promote", "fraud", "--argocd", argo.address, *more))

    return run


def test_what_staging_has_had_in_health_long_enough_is_promoted(
    promote: Callable[..., int], clone: Any, application: Any, release_of: Callable[..., Release], capsys: Any
) -> None:
    head = clone.git("rev-parse", "HEAD")
    assert promote(application(head, release_of("1.1.0"))) == 0
    assert clone.holds("prod") == "1.1.0-0.1.0"
    assert (
        "staging has run fraud 1.1.0-0.1.0 Synced and Healthy since 2026-05-04T11:00:00+00:00"
        in capsys.readouterr().err
    )


def test_a_release_of_four_minutes_is_told_how_long_is_left(
    promote: Callable[..., int], clone: Any, application: Any, release_of: Callable[..., Release], capsys: Any
) -> None:
    head = clone.git("rev-parse", "HEAD")
    young = application(head, release_of("1.1.0"), history=synced(head, minutes=4))
    assert promote(young) == 1
    error = capsys.readouterr().err
    assert "for 4 min only, since 2026-05-04T11:56:00+00:00" in error
    assert "10 min are asked for: 6 min are left" in error
    assert "Nothing was promoted" in error
    assert "--without-soak" in error
    assert clone.holds("prod") == "1.0.0-0.1.0"
    assert promote(young, "--soak", "3m") == 0


def test_health_that_came_later_than_the_sync_counts_from_then(
    promote: Callable[..., int], clone: Any, application: Any, release_of: Callable[..., Release], capsys: Any
) -> None:
    head = clone.git("rev-parse", "HEAD")
    assert promote(application(head, release_of("1.1.0"), health=healthy(minutes=9))) == 1
    assert "9 min only" in capsys.readouterr().err


def test_time_is_argo_cds_own(
    promote: Callable[..., int], argo: Any, clone: Any, application: Any, release_of: Callable[..., Release]
) -> None:
    head = clone.git("rev-parse", "HEAD")
    found = application(head, release_of("1.1.0"))
    argo.date = NOW - timedelta(minutes=55)
    assert promote(found) == 1
    argo.date = NOW
    assert promote(found) == 0


def test_a_later_sync_of_the_same_release_does_not_begin_anew(
    promote: Callable[..., int], clone: Any, application: Any, release_of: Callable[..., Release], capsys: Any
) -> None:
    brought = clone.git("rev-parse", "HEAD")
    clone.write("kustomize/base/deployment.yaml", "# a change elsewhere\n")
    later = clone.commit("A setting")
    clone.git("push", "-q")
    begun = clone.git("rev-parse", f"{brought}^")
    status = {"health": healthy(days=1), "history": synced(begun, brought, later, minutes=9.5)}
    # 1.1.0 came with the sync before the last, 10.5 minutes ago.
    assert promote(application(later, release_of("1.1.0"), **status)) == 0


def test_a_release_that_went_and_came_back_begins_anew(
    promote: Callable[..., int], clone: Any, application: Any, release_of: Callable[..., Release], capsys: Any
) -> None:
    first = clone.git("rev-parse", "HEAD")
    gone = clone.hold("staging", release_of("1.2.0"))
    back = clone.hold("staging", release_of("1.1.0"))
    status = {"health": healthy(days=1), "history": synced(first, gone, back, minutes=9)}
    assert promote(application(back, release_of("1.1.0"), **status)) == 1
    assert "9 min only" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("status", "said"),
    [
        ({"sync": {"status": "OutOfSync", "revision": "HEAD"}}, "staging-fraud: OutOfSync, Healthy on"),
        ({"health": {"status": "Progressing"}}, "Synced, Progressing on"),
        ({"health": {"status": "Degraded"}, "resources": resources(Deployment="Degraded")},
         "Synced, Degraded on .*: Deployment fraud-forest is Degraded: Degraded!"),
        ({"sync": {"status": "Unknown", "revision": "HEAD"},
          "conditions": [{"type": "ComparisonError", "message": "cannot render"}]},
         "Unknown, Healthy on .*: ComparisonError: cannot render"),
        ({"operationState": {**operation("Running", "x", "waiting for healthy state")}},
         "syncing: waiting for healthy state"),
        ({"summary": {"images": ["registry.example/forest/fraud:1.0.0-0.1.0@sha256:00"]}},
         "but no pod runs registry.example/forest/fraud:1.1.0-0.1.0@sha256"),
        ({"history": []}, "history tells of no sync of staging-fraud that brought fraud 1.1.0-0.1.0"),
        ({"history": synced("0" * 40, minutes=60)}, "history tells of no sync"),
        ({"history": [{"deployedAt": "2026-01-01T00:00:00Z"}]}, "history tells of no sync"),
        ({"health": {"status": "Healthy"}}, "does not say since when staging-fraud is Healthy"),
        ({"sync": {"status": "Synced", "revision": "4" * 40}}, "nor on a branch of origin"),
        ({"sync": {"status": "Synced", "revision": "--help"}}, "which is not in this clone"),
        ({"sync": {"status": "Unknown"}}, "compared with no commit yet"),
        ({"sync": {"status": "Synced", "revision": "HEAD^"}}, "which does not hold fraud 1.1.0-0.1.0"),
    ],
)  # fmt: skip
def test_what_argo_cd_does_not_call_well_is_not_promoted(  # noqa: PLR0917 - fixtures
    promote: Callable[..., int],
    clone: Any,
    application: Any,
    release_of: Callable[..., Release],
    status: dict[str, Any],
    said: str,
    capsys: Any,
) -> None:
    revision = status.get("sync", {}).get("revision", "")
    if revision.startswith("HEAD"):
        status["sync"]["revision"] = clone.git("rev-parse", revision)
    head = clone.git("rev-parse", "HEAD")
    assert promote(application(head, release_of("1.1.0"), **status)) == 1
    error = capsys.readouterr().err
    assert re.search(said, error), error
    assert clone.holds("prod") == "1.0.0-0.1.0"
    assert clone.git("ls-remote", "origin", "main").split()[0] == head


def test_a_commit_that_is_not_here_yet_is_fetched(
    promote: Callable[..., int],
    clone: Any,
    new_clone: Callable[[str], Any],
    application: Any,
    release_of: Callable[..., Release],
) -> None:
    other = new_clone("other")
    other.git("switch", "-q", "-c", "elsewhere")
    other.write("README.md", "Newer\n")
    newer = other.commit("Newer")
    other.git("push", "-q", "origin", "elsewhere")
    assert promote(application(newer, release_of("1.1.0"))) == 0


def test_argo_cd_is_found_as_its_own_command_finds_it(  # noqa: PLR0917 - fixtures
    clone: Any,
    argo: Any,
    application: Any,
    release_of: Callable[..., Release],
    monkeypatch: pytest.MonkeyPatch,
    capsys: Any,
) -> None:
    head = clone.hold("staging", release_of("1.1.0"))
    monkeypatch.setenv("ARGOCD_SERVER", argo.address)
    argo.answers = [application(head, release_of("1.1.0"), health=healthy(minutes=1))]
    assert clone.run("promote", "fraud") == 1
    monkeypatch.delenv("ARGOCD_AUTH_TOKEN")
    assert clone.run("promote", "fraud") == 1
    assert "set ARGOCD_AUTH_TOKEN" in capsys.readouterr().err
    # As CI has it where no address is known.
    monkeypatch.setenv("ARGOCD_SERVER", "")
    assert clone.run("promote", "fraud", "--soak", "1h") == 1
    assert "--soak needs Argo CD's address" in capsys.readouterr().err
    assert clone.run("promote", "fraud") == 0
    assert len(argo.asked) == 1


def test_without_soak_nobody_is_asked_and_the_commit_says_why(
    promote: Callable[..., int], clone: Any, argo: Any
) -> None:
    assert promote((500, ""), "--without-soak", "  CVE-2026-1\n\nSigned-off-by: nobody ") == 0
    assert not argo.asked
    body = clone.git("log", "-1", "--format=%b")
    assert body.splitlines()[-1] == "Promoted without soak: CVE-2026-1 Signed-off-by: nobody"
    assert body.startswith("Image: registry.example/forest/fraud:1.1.0-0.1.0@sha256:")


def test_without_soak_needs_a_reason(promote: Callable[..., int], capsys: Any) -> None:
    for more in (["--without-soak", " "], ["--without-soak", "why", "--soak", "1m"], ["--soak", "10"]):
        with pytest.raises(SystemExit):
            promote((500, ""), *more)
    error = capsys.readouterr().err
    assert "say why: the commit keeps it" in error
    assert "not allowed with" in error
    assert "'10' is not a length of time: give 30s, 10m or 2h" in error


@pytest.mark.usefixtures("needs_kustomize")
def test_a_dry_run_shows_the_change_and_that_it_would_be_refused(
    promote: Callable[..., int], clone: Any, application: Any, release_of: Callable[..., Release], capsys: Any
) -> None:
    head = clone.git("rev-parse", "HEAD")
    young = application(head, release_of("1.1.0"), health=healthy(minutes=1))
    assert promote(young, "--dry-run") == 1
    said = capsys.readouterr()
    assert "+        image: registry.example/forest/fraud:1.1.0-0.1.0@sha256" in said.out
    assert "9 min are left" in said.err
    assert promote(young, "--dry-run", "--without-soak", "A test") == 0
    assert promote(young, "--dry-run", "--soak", "30s") == 0
    assert clone.git("rev-parse", "HEAD") == head


# --- release --wait


@pytest.fixture
def ship(clone: Any, argo: Any, bundle: Callable[[str], Path]) -> Callable[..., int]:
    """Return a function that releases 1.1.0 and waits."""
    folder = bundle("1.1.0")

    def run(*more: str) -> int:
        return int(
            clone.run(
                "release", "fraud", "1.1.0", "--image", "registry.example/forest/fraud", "--digest", DIGEST,
                "--bundle", str(folder), "--server-version", "0.1.0", "--argocd", argo.address, *more,
            )
        )  # fmt: skip

    return run


@pytest.fixture
def now(clone: Any, application: Any) -> Callable[..., Callable[[], dict[str, Any]]]:
    """Return a function that makes an answer at the moment of asking, when the release is committed."""

    def make(at: str = "HEAD", **status: Any) -> Callable[[], dict[str, Any]]:
        def answer() -> dict[str, Any]:
            revision = clone.git("rev-parse", at)
            text = clone.git("show", f"{revision}:{STAGING}") + "\n"
            found = application(revision, Release.from_bytes(text.encode(), STAGING))
            for key, value in status.items():
                found["status"][key] = value(revision) if callable(value) else value
            return dict(found)

        return answer

    return make


def test_a_release_is_waited_for_through_all_it_goes_through(
    ship: Callable[..., int], clone: Any, argo: Any, now: Any, capsys: Any
) -> None:
    argo.answers = [
        (503, {"message": "starting"}),
        (404, {"message": "not found"}),
        now("HEAD^"),
        now(sync=lambda at: {"status": "OutOfSync", "revision": at}),
        now(
            operationState=lambda at: operation("Running", at, "waiting for healthy state of apps/Deployment")
        ),
        # The release before was Degraded, and the autoscaler has no figures yet.
        now(
            health={"status": "Degraded"},
            resources=resources(Deployment="Progressing", HorizontalPodAutoscaler="Degraded"),
        ),
        now(health={"status": "Degraded"}, resources=resources(HorizontalPodAutoscaler="Degraded")),
        now(health={"status": "Degraded"}, resources=resources(HorizontalPodAutoscaler="Degraded")),
        now(health={"status": "Progressing"}),
        now(),
    ]
    assert ship("--wait") == 0
    said = capsys.readouterr()
    head = clone.git("rev-parse", "--short=12", "HEAD")
    assert said.out == f"{head} staging holds fraud 1.1.0-0.1.0\n"
    lines = [line.removeprefix("forest-gitops: staging-fraud: ") for line in said.err.splitlines()]
    assert len(lines) == len(set(lines)) == 9
    assert lines[0].endswith("answered 503 for staging-fraud: starting")
    assert lines[2].endswith("which does not hold fraud 1.1.0-0.1.0")
    assert lines[3] == f"OutOfSync, Healthy on {head}"
    assert lines[4].endswith("syncing: waiting for healthy state of apps/Deployment")
    assert lines[-1] == f"Synced, Healthy on {head}"
    assert len(argo.asked) == 10


@pytest.mark.parametrize(
    ("status", "said"),
    [
        ({"health": {"status": "Degraded"},
          "resources": [{**resources(Deployment="Degraded")[0],
                         "health": {"status": "Degraded", "message": LATE}}],
          "operationState": lambda at: operation("Running", at, "tasks failed. Retrying attempt #1")},
         f"Deployment fraud-forest is Degraded: {LATE}"),
        ({"sync": lambda at: {"status": "OutOfSync", "revision": at},
          "operationState": lambda at: operation("Failed", at, "quota exceeded (retried 5 times).")},
         "the sync ended as Failed: quota exceeded (retried 5 times)"),
        ({"sync": lambda at: {"status": "OutOfSync", "revision": at},
          "operationState": {"phase": "Error", "message": "no project"},
          "conditions": [{"type": "SyncError", "message": "Failed last sync attempt to []: no project"}]},
         "Failed last sync attempt to []: no project"),
    ],
)  # fmt: skip
def test_a_release_that_will_not_come_is_told_at_once(  # noqa: PLR0917 - fixtures
    ship: Callable[..., int], argo: Any, now: Any, status: Any, said: str, capsys: Any
) -> None:
    argo.answers = [now(**status)]
    assert ship("--wait") == 1
    last = capsys.readouterr().err.splitlines()[-1]
    assert said in last
    assert "`forest-gitops rollback fraud --env staging`" in last
    assert len(argo.asked) == 2


def test_what_went_wrong_before_the_release_is_not_its_fault(
    ship: Callable[..., int], argo: Any, now: Any, clone: Any
) -> None:
    before = clone.git("rev-parse", "HEAD")
    waiting = now(
        sync=lambda at: {"status": "OutOfSync", "revision": at},
        health={"status": "Degraded"},
        operationState=operation("Failed", before, "quota exceeded"),
        resources=[{**resources(Deployment="Degraded")[0], "status": "OutOfSync"}],
    )
    argo.answers = [waiting, waiting, waiting, now()]
    assert ship("--wait") == 0


def test_one_look_at_a_degraded_deployment_is_not_enough(
    ship: Callable[..., int], argo: Any, now: Any
) -> None:
    bad = now(health={"status": "Degraded"}, resources=resources(Deployment="Degraded"))
    argo.answers = [bad, now(health={"status": "Progressing"}), bad, now()]
    assert ship("--wait") == 0


def test_another_release_that_comes_first_ends_the_wait(  # noqa: PLR0917 - fixtures
    ship: Callable[..., int],
    argo: Any,
    application: Any,
    new_clone: Callable[[str], Any],
    release_of: Callable[..., Release],
    capsys: Any,
) -> None:
    def answer() -> dict[str, Any]:
        other = new_clone("other")
        return dict(application(other.hold("staging", release_of("1.2.0")), release_of("1.2.0")))

    argo.answers = [answer]
    assert ship("--wait") == 1
    error = capsys.readouterr().err
    assert "holds another release than fraud 1.1.0-0.1.0: another change came first" in error
    assert "rollback" not in error


def test_a_wait_has_an_end(ship: Callable[..., int], argo: Any, now: Any, capsys: Any) -> None:
    argo.answers = [now(sync=lambda at: {"status": "OutOfSync", "revision": at})]
    assert ship("--wait=0s") == 1
    last = capsys.readouterr().err.splitlines()[-1]
    assert "after 0 s still not there: staging-fraud: OutOfSync, Healthy on" in last
    # CI may run twice: the release is there, and is waited for all the same.
    argo.answers = [now()]
    assert ship("--wait=0s") == 0
    assert "nothing to do" in capsys.readouterr().out


def test_a_wait_that_cannot_be_is_refused_before_anything_is_done(
    ship: Callable[..., int], clone: Any, argo: Any, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    head = clone.git("rev-parse", "HEAD")
    assert ship("--wait", "--no-push") == 1
    assert "--wait and --no-push exclude each other" in capsys.readouterr().err
    monkeypatch.delenv("ARGOCD_AUTH_TOKEN")
    assert ship("--wait") == 1
    assert "set ARGOCD_AUTH_TOKEN" in capsys.readouterr().err
    assert clone.git("ls-remote", "origin", "main").split()[0] == head
    # Nobody who does not wait needs one.
    assert ship() == 0


def test_a_token_that_is_refused_ends_the_wait(ship: Callable[..., int], argo: Any, capsys: Any) -> None:
    argo.answers = [(401, {"message": "token expired"})]
    assert ship("--wait") == 1
    assert "does not accept the token in ARGOCD_AUTH_TOKEN: token expired" in capsys.readouterr().err
    assert len(argo.asked) == 1


# --- status --wait


def test_prod_is_waited_for_until_somebody_has_pressed_sync(
    clone: Any, argo: Any, application: Any, release_of: Callable[..., Release], capsys: Any
) -> None:
    clone.hold("staging", release_of("1.1.0"))
    before = clone.git("rev-parse", "HEAD")
    clone.run("promote", "fraud")
    head = clone.git("rev-parse", "HEAD")
    new = release_of("1.1.0")

    def prod(revision: str, **status: Any) -> dict[str, Any]:
        return dict(application(revision, new, "prod-fraud", automated=False, **status))

    argo.answers = [
        prod(before),
        prod(head, sync={"status": "OutOfSync", "revision": head}),
        prod(head, operationState=operation("Running", head)),
        prod(head),
    ]
    capsys.readouterr()
    assert clone.run("status", "fraud", "--env", "prod", "--wait", "--argocd", argo.address) == 0
    said = capsys.readouterr()
    assert [line.split()[:2] for line in said.out.splitlines()] == [
        ["MODEL", "ENVIRONMENT"],
        ["fraud", "prod"],
    ]
    assert "OutOfSync, Healthy on" in said.err
    assert "it waits for someone to press Sync" in said.err
    assert said.err.splitlines()[-1].endswith(f"Synced, Healthy on {head[:12]}")
    assert argo.asked[0][0].endswith("/prod-fraud?refresh=normal&project=forest-prod")


def test_every_application_is_waited_for_and_a_clone_that_is_behind_told(  # noqa: PLR0917 - fixtures
    clone: Any,
    argo: Any,
    application: Any,
    new_clone: Callable[[str], Any],
    release_of: Callable[..., Release],
    capsys: Any,
) -> None:
    head = clone.git("rev-parse", "HEAD")
    argo.answers = [
        application(head, release_of(), name)
        for name in ("staging-credit", "prod-credit", "staging-fraud", "prod-fraud")
    ]
    assert clone.run("status", "--json", "--wait", "--argocd", argo.address) == 0
    assert len(argo.asked) == 4
    newer = new_clone("other").hold("prod", release_of("1.1.0"))
    argo.answers = [application(newer, release_of("1.1.0"), "prod-fraud", automated=False)]
    assert clone.run("status", "fraud", "--env", "prod", "--wait", "--argocd", argo.address) == 1
    assert "after a `git pull`" in capsys.readouterr().err


def test_a_status_that_waits_needs_an_address_and_a_release(clone: Any, capsys: Any) -> None:
    assert clone.run("status", "--wait") == 1
    assert "--wait needs Argo CD's address" in capsys.readouterr().err
    assert clone.run("status", "churn") == 1
    assert "holds no release of churn in any environment: it holds credit in prod, credit in staging" in (
        capsys.readouterr().err
    )
