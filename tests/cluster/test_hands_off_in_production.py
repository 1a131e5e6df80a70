"""What is changed by hand in production is shown, and stays until somebody presses Sync."""

import pytest

from gitops.layout import PROD
from tests.cluster.hands import HANDS, Hand
from tests.cluster.kubernetes import until
from tests.cluster.system import System, application


@pytest.mark.parametrize("hand", HANDS.values(), ids=HANDS)
def test_production_shows_it_until_somebody_presses_sync(system: System, hand: Hand) -> None:
    held = system.clone.held(PROD)
    undone = hand(system, PROD)

    system.argocd.application(application(PROD), refresh="normal")
    system.argocd.wait(application(PROD), sync="OutOfSync", health="")
    assert not undone()
    system.argocd.sync(application(PROD))
    system.say(PROD, held)
    until("prod is as Git says", undone, seconds=60)
    system.argocd.wait(application(PROD))
    system.pods[PROD].wait_for_image(held.reference)
