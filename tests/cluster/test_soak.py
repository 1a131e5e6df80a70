"""A hundred cycles: what is planned costs no call, however often."""

import statistics

import pytest

from gitops.layout import PROD, STAGING
from tests.cluster.system import System

_CYCLES = 100


def test_a_hundred_promotions_and_rollbacks(system: System, soak: bool) -> None:
    if not soak:
        pytest.skip("it takes an hour: `make cluster-soak`")
    system.bring(PROD, "1.0.0")
    system.bring(STAGING, "1.1.0")
    for _cycle in range(_CYCLES // 2):
        system.promote()
        system.settle(PROD)
        system.rollback(PROD)
        system.settle(PROD)
    taken = [change.all - change.pushed for change in system.changes[-_CYCLES:]]
    print(
        f"{_CYCLES} cycles, from push to all pods: "
        f"median {statistics.median(taken):.1f} s, worst {max(taken):.1f} s"
    )
