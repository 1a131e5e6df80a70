"""What goes on while parts go: evictions, a killed pod, and the control plane itself."""

import json
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from gitops.layout import PROD, STAGING
from tests.cluster.kubernetes import until
from tests.cluster.setting import Setting
from tests.cluster.system import System, application, namespace


@pytest.mark.parametrize(("environment", "least"), [(STAGING, 2), (PROD, 3)])
def test_a_drain_by_evictions_honours_the_disruption_budget(
    system: System, environment: str, least: int
) -> None:
    pods, where = system.pods[environment], namespace(environment)
    old = {pod.name for pod in pods.serving()}
    refusals = 0
    for name in sorted(old):
        while not (done := _evict(system, where, name)):
            refusals += 1
            assert len(pods.serving()) >= least - 1
            time.sleep(0.2)
        assert done
    pods.wait("as many pods again", lambda all_: len(_serving_others(all_, old)) >= least)
    # Some had to wait for those before them.
    assert refusals
    assert pods.fewest_since(min(pod.ending or 0 for pod in pods.all() if pod.name in old)) >= least - 1
    system.argocd.wait(application(environment))


def test_a_killed_pod_costs_the_calls_that_were_on_it_alone(system: System, node: "Node") -> None:
    pod = system.pods[PROD].serving()[0]
    container = system.kubernetes.get("pod", pod.name, namespace(PROD))["status"]["containerStatuses"][0]
    begun = time.time()
    node.crash(container["containerID"].rpartition("/")[2])
    ended = time.time()
    system.crashes.append((begun, ended))

    def restarted() -> bool:
        status = system.kubernetes.get("pod", pod.name, namespace(PROD))["status"]["containerStatuses"][0]
        return status["restartCount"] > container["restartCount"] and status["ready"]

    until("the pod serves again", restarted)
    system.argocd.wait(application(PROD))
    time.sleep(1)
    for client in system.clients:
        failed = [call for call in client.so_far().calls if call.sent > begun - 5 and not call.answered]
        if client.environment != PROD or client.retries:
            assert not failed
        # Only what was in flight at that moment.
        assert [call for call in failed if not (call.sent <= ended and call.over >= begun)] == []
        print(f"{client.log.stem}: {len(failed)} calls failed of those in flight on the pod")


def test_pods_serve_on_without_a_kubelet(system: System, node: "Node") -> None:
    before = {environment: system.replica_set(environment) for environment in (STAGING, PROD)}
    names = {pod.name for pod in system.pods[PROD].serving()}
    begun = time.time()
    with node.without("kubelet"):
        time.sleep(5)
    ended = time.time()
    system.kubernetes.run("wait", "--for=condition=Ready", "node", "--all", "--timeout=60s")
    # A kubelet that starts anew calls its pods unready until it has probed them.
    system.pods[PROD].wait(
        "the same pods are ready", lambda pods: {pod.name for pod in pods if pod.serving} == names
    )
    assert {environment: system.replica_set(environment) for environment in (STAGING, PROD)} == before
    for client in system.clients:
        # Nobody could read their logs meanwhile; they went on.
        until(f"{client.log.stem} is read again", lambda client=client: client.last() > ended)
        calls = client.so_far().between(begun, ended).calls
        assert calls
        assert all(call.answered for call in calls)


def test_a_release_waits_for_a_killed_controller_of_argo_cd_and_is_not_lost(
    system: System, node: "Node"
) -> None:
    system.bring(STAGING, "1.0.0")
    image = system.images["1.1.0"]
    with node.without("argocd-application-controller"):
        commit = system.clone.release(image)
        system.say(STAGING, image.release)
        # A webhook's word stays until there is somebody to hear it.
        system.kubernetes.run(
            "annotate", "application", application(STAGING), "--namespace=argocd", "--overwrite",
            "argocd.argoproj.io/refresh=normal",
        )  # fmt: skip
        time.sleep(3)
        system.answered_by(STAGING, system.images["1.0.0"].release)
    system.argocd.wait(application(STAGING), revision=commit)
    system.pods[STAGING].wait_for_image(image.release.reference)


def test_nothing_is_lost_when_etcd_starts_anew(system: System, node: "Node") -> None:
    before = {environment: system.replica_set(environment) for environment in (STAGING, PROD)}
    with node.without("etcd"):
        time.sleep(3)
    until("the API server answers", lambda: system.kubernetes.try_run("get", "--raw=/readyz").returncode == 0)
    for environment in (STAGING, PROD):
        system.argocd.wait(application(environment))
        assert system.replica_set(environment) == before[environment]
    # And it still does what Git says.
    system.bring(STAGING, "1.0.0")
    system.answered_by(STAGING, system.clone.held(STAGING))


class Node:
    """The control plane's own machine, as far as the suite was given a command for it."""

    def __init__(self, command: str):
        self._command = command

    def crash(self, container: str) -> None:
        """End the process of a container, as a crash would."""
        self._run("crash", container)

    @contextmanager
    def without(self, part: str) -> Iterator[None]:
        """Do something while a part is dead."""
        self._run("kill", part)
        try:
            yield
        finally:
            self._run("start", part)

    def _run(self, verb: str, what: str) -> None:
        command = f"{self._command} {verb} {what}"
        done = subprocess.run(command, shell=True, capture_output=True, text=True, check=False, timeout=120)
        assert done.returncode == 0, f"{command}: {done.stderr}"


@pytest.fixture
def node(setting: Setting) -> Node:
    """Return what ends parts of the control plane."""
    if not setting.node:
        pytest.skip("FOREST_CLUSTER_NODE names no command that may end parts of the control plane")
    return Node(setting.node)


def _evict(system: System, where: str, name: str) -> bool:
    """Ask for an eviction, as ``kubectl drain`` does; return whether it was granted."""
    document = {
        "apiVersion": "policy/v1",
        "kind": "Eviction",
        "metadata": {"name": name, "namespace": where},
    }
    done = system.kubernetes.try_run(
        "create", f"--raw=/api/v1/namespaces/{where}/pods/{name}/eviction", "--filename=-",
        standard_input=json.dumps(document).encode(),
    )  # fmt: skip
    if done.returncode == 0:
        return True
    assert b"disruption budget" in done.stderr, done.stderr.decode()
    return False


def _serving_others(pods: list, old: set[str]) -> list:
    return [pod for pod in pods if pod.serving and pod.name not in old]
