"""Load raises the replicas, its end lowers them, and Argo CD lets them be."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

import yaml

from gitops.layout import STAGING
from tests.cluster.caller.manifest import pod
from tests.cluster.clone import MODEL
from tests.cluster.system import System, application, namespace

_NAME = f"{MODEL}-forest"


def test_load_raises_the_replicas_and_its_end_lowers_them(system: System) -> None:
    system.bring(STAGING, "1.0.0")
    wait_for_replicas(system, 2, seconds=180)
    seen: list[tuple[str, str]] = []
    with load(system):
        wait_for_replicas(system, 4, seconds=120, seen=seen)
        # A sync while there are more than Git ever said: the count is not Git's.
        system.argocd.application(application(STAGING), refresh="hard")
        system.argocd.sync(application(STAGING))
        system.argocd.wait(application(STAGING))
        assert replicas(system) == 4
    wait_for_replicas(system, 2, seconds=180, seen=seen)
    assert {sync for sync, _ in seen} == {"Synced"}
    assert {health for _, health in seen} <= {"Healthy", "Progressing"}


def replicas(system: System) -> int:
    """Return how many pods the Deployment is to have."""
    return int(system.kubernetes.get("deployment", _NAME, namespace(STAGING))["spec"]["replicas"])


def wait_for_replicas(
    system: System, wanted: int, seconds: float, seen: list[tuple[str, str]] | None = None
) -> None:
    """Wait until as many pods serve, and note what Argo CD says on the way."""
    deadline = time.monotonic() + seconds
    while replicas(system) != wanted or len(system.pods[STAGING].serving()) != wanted:
        if seen is not None:
            seen.append(system.argocd.state(application(STAGING)))
        assert time.monotonic() < deadline, (
            f"{replicas(system)} replicas, not {wanted}, after {seconds:g} s: "
            f"{system.kubernetes.get('hpa', _NAME, namespace(STAGING))['status']}"
        )
        time.sleep(0.5)


@contextmanager
def load(system: System) -> Iterator[None]:
    """Call staging as often as one client can."""
    where = f"forest-clients-{STAGING}"
    caller = system.kubernetes.get("pod", "caller", where)["spec"]["containers"][0]["image"]
    documents = yaml.safe_load_all(pod(STAGING, caller, name="load", options=("--rate=900",)))
    system.kubernetes.apply(*documents)
    try:
        yield
    finally:
        system.kubernetes.run("delete", "pod", "load", f"--namespace={where}", "--wait=true")
