"""A hundred cycles: what is planned costs no call, however often."""

import statistics
from itertools import cycle

import pytest

from gitops.layout import PROD, STAGING
from tests.cluster.drain import drain
from tests.cluster.hands import delete_service, set_image
from tests.cluster.kubernetes import until
from tests.cluster.scaling import Scaling
from tests.cluster.system import System, application

_CYCLES = 100
# Something else that is planned follows each fifth pair of them.
_EVERY = 5


def _drain(system: System) -> None:
    drain(system, PROD)


def _sync(system: System) -> None:
    system.argocd.sync(application(PROD))


def _scale(system: System) -> None:
    """Have load raise staging's replicas: while the cycles go on, its autoscaler takes them away again."""
    scaling = Scaling(system)
    with scaling.load():
        scaling.wait_for(4, seconds=180)
    scaling.end()


def _heal(system: System) -> None:
    """Have staging undo what somebody did by hand."""
    held = system.clone.held(STAGING)
    for hand in (set_image, delete_service):
        until("staging is as Git says", hand(system, STAGING))
        system.say(STAGING, held)
        system.argocd.wait(application(STAGING))
    system.pods[STAGING].wait_for_image(held.reference)


@pytest.mark.timeout(3600)
def test_a_hundred_promotions_and_rollbacks(system: System, soak: bool) -> None:
    if not soak:
        pytest.skip("it takes long: `make cluster-soak`")
    system.bring(PROD, "1.0.0")
    system.bring(STAGING, "1.1.0")
    others = cycle([_drain, _scale, _heal, _sync])
    taken: list[float] = []
    for pair in range(_CYCLES // 2):
        for step in (system.promote, lambda: system.rollback(PROD)):
            change = step()
            taken.append(change.all - change.pushed)
        if pair % _EVERY == _EVERY - 1:
            next(others)(system)
            for environment in (STAGING, PROD):
                system.argocd.wait(application(environment))
                system.settle(environment)
    assert len(taken) == _CYCLES
    print(
        f"{_CYCLES} cycles, from push to all pods: "
        f"median {statistics.median(taken):.1f} s, worst {max(taken):.1f} s"
    )
