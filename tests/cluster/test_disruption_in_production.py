"""What goes on while pods go: evictions, and one that is killed."""

import time

from gitops.layout import PROD
from tests.cluster.drain import drain
from tests.cluster.kubernetes import until
from tests.cluster.machine import Machine
from tests.cluster.system import System, application, namespace


def test_a_drain_by_evictions_honours_the_disruption_budget(system: System) -> None:
    # Some had to wait for those before them.
    assert drain(system, PROD)
    system.argocd.wait(application(PROD))


def test_a_killed_pod_costs_the_calls_that_were_on_it_alone(system: System, machine: Machine) -> None:
    pod = system.pods[PROD].serving()[0]
    container = system.kubernetes.get("pod", pod.name, namespace(PROD))["status"]["containerStatuses"][0]
    begun = time.time()
    machine.crash(container["containerID"].rpartition("/")[2])
    # Clients hear of it a moment later.
    ended = time.time() + 0.1
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
