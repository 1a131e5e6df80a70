"""Rollback in Argo CD's UI: where it works, and what Git then says."""

import pytest

from gitops.layout import PROD, STAGING
from tests.cluster.argocd import RefusedError
from tests.cluster.system import System, application


def test_it_is_refused_in_staging_which_syncs_by_itself(system: System) -> None:
    history = system.argocd.application(application(STAGING))["status"]["history"]
    with pytest.raises(RefusedError, match="auto"):
        system.argocd.rollback(application(STAGING), history[0]["id"])


def test_it_works_in_production_and_leaves_git_alone(system: System) -> None:
    system.bring(PROD, "1.0.0")
    system.bring(STAGING, "1.1.0")
    old = system.replica_set(PROD)
    earlier = system.argocd.application(application(PROD))["status"]["history"][-1]
    promoted = system.promote()

    system.say(PROD, promoted.before)
    system.argocd.rollback(application(PROD), earlier["id"])
    system.pods[PROD].wait_for_image(promoted.before.reference)

    assert system.replica_set(PROD) == old
    system.answered_by(PROD, promoted.before)
    # Git still says 1.1.0, so the UI shows a difference, and the next Sync would bring 1.1.0 back.
    system.argocd.wait(application(PROD), sync="OutOfSync")
    assert system.clone.held(PROD).version == "1.1.0"
    # The same rollback in Git: nothing is left for Sync to change.
    system.clone.gitops("rollback", "fraud", f"--env={PROD}")
    system.say(PROD, promoted.before)
    system.noticed(PROD, system.clone.head())
    system.argocd.wait(application(PROD), sync="Synced", revision=system.clone.head())
    assert system.replica_set(PROD) == old
