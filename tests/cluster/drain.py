"""A drain, as ``kubectl drain`` does it: by the eviction API, which honours the PodDisruptionBudget."""

import json
import time

from tests.cluster.pods import Pod
from tests.cluster.system import LEAST, System, namespace


def drain(system: System, environment: str) -> int:
    """Evict every pod that serves, one after the other, and return how often that was refused for a time.

    Returns when as many others serve.
    """
    pods = system.pods[environment]
    old = {pod.name for pod in pods.serving()}
    refusals = 0
    for name in sorted(old):
        while not _evict(system, namespace(environment), name):
            refusals += 1
            time.sleep(0.2)

    def replaced(all_: list[Pod]) -> bool:
        return sum(pod.serving and pod.name not in old for pod in all_) >= LEAST[environment]

    pods.wait("as many pods again", replaced)
    begun = min(pod.ending or 0 for pod in pods.all() if pod.name in old)
    assert pods.fewest_since(begun) >= LEAST[environment] - 1
    return refusals


def _evict(system: System, where: str, name: str) -> bool:
    """Ask for an eviction; return whether it was granted."""
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
