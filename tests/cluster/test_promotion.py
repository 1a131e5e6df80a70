"""A promotion is a commit; Sync is the moment at which it happens."""

from gitops.layout import PROD, STAGING
from tests.cluster.clone import MODEL
from tests.cluster.system import System, application


def test_production_is_out_of_sync_until_somebody_presses_sync(system: System) -> None:
    system.bring(PROD, "1.0.0")
    system.bring(STAGING, "1.1.0")
    before = system.clone.held(PROD)
    commit = system.clone.promote()
    system.noticed(PROD, commit)

    application_ = system.argocd.wait(application(PROD), sync="OutOfSync")
    changed = [entry["kind"] for entry in application_["status"]["resources"] if entry["status"] != "Synced"]
    assert changed == ["Deployment"]
    assert {pod.image for pod in system.pods[PROD].serving()} == {before.reference}
    assert system.ask(PROD) == (before.version, before.bundle)

    # What was promoted is taken back before it ever ran: nothing of it is left.
    system.clone.gitops("rollback", MODEL, f"--env={PROD}")
    system.noticed(PROD, system.clone.head())
    system.argocd.wait(application(PROD), revision=system.clone.head())


def test_after_sync_every_pod_serves_what_was_promoted(system: System) -> None:
    system.bring(PROD, "1.0.0")
    system.bring(STAGING, "1.1.0")

    change = system.promote()

    assert {pod.image for pod in system.pods[PROD].serving()} == {change.after.reference}
    assert change.after.version == "1.1.0"
    system.answered_by(PROD, change.after)
    assert system.clone.held(PROD) == system.clone.held(STAGING)


def test_what_staging_has_not_had_in_health_for_long_enough_is_not_promoted(system: System) -> None:
    system.bring(STAGING, "1.0.0")
    system.bring(PROD, "1.0.0")
    system.release("1.1.0")
    refused = system.clone.try_gitops("promote", MODEL, "--soak=1h")
    assert refused.returncode == 1
    assert "are left" in refused.stderr
    assert system.clone.held(PROD).version == "1.0.0"

    system.clone.gitops("promote", MODEL, "--dry-run", "--without-soak=A rehearsal")
