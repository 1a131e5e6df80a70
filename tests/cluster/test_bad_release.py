"""A release that does not come up takes no call, and does not hold up its revert."""

from pathlib import Path

import pytest

from gitops.layout import STAGING
from tests.cluster import bad_release
from tests.cluster.bad_release import KINDS, WAITED_FOR, BadRelease
from tests.cluster.images import Images
from tests.cluster.system import System, application


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != WAITED_FOR])
def test_it_takes_no_call_and_its_revert_is_not_held_up(
    system: System, images: Images, bundles: dict[str, Path], kind: str
) -> None:
    bad = bad_release.release(system, images, bundles, kind)
    system.argocd.wait(application(STAGING), health="Progressing", revision=bad.commit)
    print(f"{kind}: reverted {bad.taken_back():.1f} s after the push")


def test_staging_serves_on_while_it_tries_to_come_up(system: System, waited_for: BadRelease) -> None:
    system.argocd.wait(application(STAGING), health="Progressing", revision=waited_for.commit)
    waited_for.serves_on()
    assert system.ask(STAGING) == (waited_for.before.version, waited_for.before.bundle)
