"""A release is a commit that staging syncs by itself."""

from gitops.layout import PROD, STAGING
from tests.cluster.system import System


def test_a_release_is_served_by_staging_and_leaves_production_alone(system: System) -> None:
    system.bring(STAGING, "1.0.0")
    system.bring(PROD, "1.0.0")
    prod = system.replica_sets(PROD)
    pods = {pod.name for pod in system.pods[PROD].serving()}

    change = system.release("1.1.0")

    assert change.after.version == "1.1.0"
    system.answered_by(STAGING, change.after)
    assert system.ask(PROD)[0] == "1.0.0"
    system.noticed(PROD, change.commit)
    assert system.argocd.state("prod-fraud") == ("Synced", "Healthy")
    assert system.replica_sets(PROD) == prod
    assert {pod.name for pod in system.pods[PROD].serving()} == pods


def test_the_tool_says_the_same_as_argo_cd(system: System) -> None:
    system.bring(STAGING, "1.1.0")
    said = system.clone.gitops("status", "--wait")
    assert "1.1.0" in said
