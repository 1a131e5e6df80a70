"""What goes on while parts go: evictions, and the control plane itself."""

import time

from gitops.layout import PROD, STAGING
from tests.cluster.drain import drain
from tests.cluster.kubernetes import until
from tests.cluster.machine import Machine
from tests.cluster.system import LEAST, System, application


def test_a_drain_by_evictions_honours_the_disruption_budget(system: System) -> None:
    # Some had to wait for those before them.
    assert drain(system, STAGING)
    system.argocd.wait(application(STAGING))


def test_pods_serve_on_without_a_kubelet(system: System, machine: Machine) -> None:
    before = {environment: system.replica_set(environment) for environment in (STAGING, PROD)}
    names = {environment: {pod.name for pod in system.pods[environment].serving()} for environment in LEAST}
    begun = time.time()
    with machine.without("kubelet"):
        time.sleep(5)
    ended = time.time()
    system.kubernetes.run("wait", "--for=condition=Ready", "node", "--all", "--timeout=60s")
    # A kubelet that starts anew calls its pods unready until it has probed them.
    for environment, least in LEAST.items():
        system.pods[environment].wait(
            "the same pods are ready",
            lambda pods, same=names[environment], least=least: (
                sum(pod.serving and pod.name in same for pod in pods) >= least
            ),
        )
    assert {environment: system.replica_set(environment) for environment in (STAGING, PROD)} == before
    for client in system.clients:
        # Nobody could read their logs meanwhile; they went on.
        until(f"{client.log.stem} is read again", lambda client=client: client.last() > ended)
        calls = client.so_far().between(begun, ended).calls
        assert calls
        assert all(call.answered for call in calls)


def test_a_release_waits_for_a_killed_controller_of_argo_cd_and_is_not_lost(
    system: System, machine: Machine
) -> None:
    system.bring(STAGING, "1.0.0")
    image = system.images["1.1.0"]
    with machine.without("argocd-application-controller"):
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


def test_nothing_is_lost_when_etcd_starts_anew(system: System, machine: Machine) -> None:
    before = {environment: system.replica_set(environment) for environment in (STAGING, PROD)}
    with machine.without("etcd"):
        time.sleep(3)
    until("the API server answers", lambda: system.kubernetes.try_run("get", "--raw=/readyz").returncode == 0)
    for environment in (STAGING, PROD):
        system.argocd.wait(application(environment))
        assert system.replica_set(environment) == before[environment]
    # And it still does what Git says.
    system.bring(STAGING, "1.0.0")
    system.answered_by(STAGING, system.clone.held(STAGING))
