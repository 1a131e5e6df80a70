"""A release that does not come up is Degraded within its deadline, and does not hold up its revert."""

from datetime import datetime
from pathlib import Path

import pytest

from gitops.layout import STAGING
from tests.cluster import bad_release
from tests.cluster.bad_release import KINDS, WAITED_FOR, BadRelease
from tests.cluster.clone import MODEL
from tests.cluster.images import Images
from tests.cluster.system import System, application

# progressDeadlineSeconds, and time for Argo CD to notice.
_DEADLINE = 120 + 15


def test_it_is_degraded_within_the_deadline_and_staging_serves_on(
    system: System, waited_for: BadRelease
) -> None:
    _degraded(system, waited_for)
    print(f"{WAITED_FOR}: reverted {waited_for.taken_back():.1f} s after the push")


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != WAITED_FOR])
def test_so_is_every_other_kind(
    system: System, images: Images, bundles: dict[str, Path], kind: str, soak: bool
) -> None:
    if not soak:
        pytest.skip("two minutes for each kind: one of them is enough without --soak")
    bad = bad_release.release(system, images, bundles, kind)
    _degraded(system, bad)
    print(f"{kind}: reverted {bad.taken_back():.1f} s after the push")


def _degraded(system: System, bad: BadRelease) -> None:
    status = system.argocd.wait(application(STAGING), health="Degraded", seconds=_DEADLINE)["status"]
    since = datetime.fromisoformat(status["health"]["lastTransitionTime"]).timestamp()
    print(f"Degraded {since - bad.begun:.0f} s after the sync")
    assert since - bad.begun < _DEADLINE
    waited = system.clone.try_gitops("release", MODEL, *bad.pushed.options, "--wait")
    assert waited.returncode == 1
    assert "Degraded" in waited.stderr
    bad.serves_on()
    assert system.ask(STAGING)[0] == bad.before.version
