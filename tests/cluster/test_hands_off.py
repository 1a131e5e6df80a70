"""What is changed by hand in staging is undone: nobody has to do anything."""

import pytest

from gitops.layout import STAGING
from tests.cluster.hands import HANDS, Hand
from tests.cluster.kubernetes import until
from tests.cluster.system import System, application


@pytest.mark.parametrize("hand", HANDS.values(), ids=HANDS)
def test_staging_undoes_it(system: System, hand: Hand) -> None:
    system.bring(STAGING, "1.1.0")
    held = system.clone.held(STAGING)

    undone = hand(system, STAGING)

    until("staging is as Git says", undone, seconds=60)
    system.say(STAGING, held)
    system.argocd.wait(application(STAGING))
    system.pods[STAGING].wait_for_image(held.reference)
