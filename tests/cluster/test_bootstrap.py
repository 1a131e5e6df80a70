"""The root Application alone brings everything about; production waits for a person."""

from gitops.layout import PROD, STAGING
from tests.cluster.bootstrap import Bootstrap
from tests.cluster.system import System, application, namespace


def test_the_root_application_alone_brings_up_projects_sets_and_both_environments(
    system: System, begun: Bootstrap
) -> None:
    assert sorted(begun.applied) == [("AppProject", "forest"), ("Application", "forest")]
    kubernetes = system.kubernetes
    for kind, names in (
        ("appprojects", {"forest", "forest-staging", "forest-prod"}),
        ("applicationsets", {STAGING, PROD}),
        ("applications", {"forest", *(f"{e}-{m}" for e in (STAGING, PROD) for m in ("fraud", "namespaces"))}),
    ):
        found = kubernetes.find(f"{kind}.argoproj.io", "argocd")
        assert names <= {entry["metadata"]["name"] for entry in found}
    for environment in (STAGING, PROD):
        labels = kubernetes.get("namespace", namespace(environment))["metadata"]["labels"]
        assert labels["pod-security.kubernetes.io/enforce"] == "restricted"
        assert kubernetes.exists("resourcequota", "forest", namespace(environment))
        assert kubernetes.exists("networkpolicy", "default-deny", namespace(environment))


def test_staging_comes_up_by_itself_and_production_waits_for_sync(system: System, begun: Bootstrap) -> None:
    assert {name: sync for name, (sync, _) in begun.waiting.items()} == {
        "prod-namespaces": "OutOfSync",
        "prod-fraud": "OutOfSync",
    }
    assert begun.waiting["prod-fraud"][1] == "Missing"
    for environment in (STAGING, PROD):
        assert system.argocd.state(application(environment)) == ("Synced", "Healthy")
    print(f"staging Healthy after {begun.seconds[STAGING]:.0f} s, prod after {begun.seconds[PROD]:.0f} s")


def test_a_pod_serves_what_git_names(system: System, begun: Bootstrap) -> None:
    for environment in (STAGING, PROD):
        held = system.clone.held(environment)
        assert {pod.image for pod in system.pods[environment].serving()} == {held.reference}
        assert system.ask(environment) == (held.version, held.bundle)
