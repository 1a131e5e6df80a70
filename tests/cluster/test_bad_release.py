"""A release that does not come up takes no call, is shown as Degraded, and does not hold up its revert."""

from pathlib import Path

import pytest

from gitops.layout import STAGING
from gitops.release import Release
from model_bundle.bundle import read_manifest
from tests.cluster.clone import MODEL
from tests.cluster.images import Images, Pushed
from tests.cluster.system import System, application

# progressDeadlineSeconds, and time for Argo CD to notice.
_DEADLINE = 120 + 15


def _crashing(images: Images, bundles: dict[str, Path]) -> Pushed:
    # The server refuses a setting that it does not know.
    return images.build(bundles["1.2.0"], last="ENV FOREST_NO_SUCH_SETTING=1")


def _of_another_bundle(images: Images, bundles: dict[str, Path]) -> Pushed:
    return images.build(bundles["1.3.0"], said=bundles["another 1.3.0"])


def _without_image(images: Images, bundles: dict[str, Path]) -> Pushed:
    bundle = bundles["1.4.0"]
    _, digest = read_manifest(bundle)
    return Pushed(Release(images.repository(MODEL), bundle.name, "0.1.0", f"sha256:{0:064d}", digest), bundle)


_KINDS = {
    "wrong bundle digest": _of_another_bundle,
    "crash at start": _crashing,
    "image that does not exist": _without_image,
}
# The one that is waited for until its deadline, also without --soak.
_WAITED_FOR = "wrong bundle digest"


@pytest.mark.parametrize("kind", [kind for kind in _KINDS if kind != _WAITED_FOR])
def test_it_takes_no_call_and_its_revert_is_not_held_up(
    system: System, images: Images, bundles: dict[str, Path], kind: str
) -> None:
    system.bring(STAGING, "1.1.0")
    old = system.replica_set(STAGING)
    held = system.clone.held(STAGING)
    bad = _KINDS[kind](images, bundles)

    commit = system.clone.release(bad)
    system.noticed(STAGING, commit)
    system.synced(STAGING, commit)
    _made(system, bad)
    system.argocd.wait(application(STAGING), health="Progressing", revision=commit)
    back = system.rollback(STAGING)

    assert back.after == held
    assert system.replica_set(STAGING) == old
    _never_ready(system, bad)
    print(f"{kind}: reverted {back.all - back.pushed:.1f} s after the push")


@pytest.mark.parametrize("kind", _KINDS)
def test_it_is_degraded_within_the_deadline_and_staging_serves_on(
    system: System, images: Images, bundles: dict[str, Path], kind: str, soak: bool
) -> None:
    if kind != _WAITED_FOR and not soak:
        pytest.skip("two minutes for each kind: one of them is enough without --soak")
    system.bring(STAGING, "1.1.0")
    old = system.replica_set(STAGING)
    bad = _KINDS[kind](images, bundles)

    commit = system.clone.release(bad)
    system.noticed(STAGING, commit)
    system.synced(STAGING, commit)
    _made(system, bad)
    system.argocd.wait(application(STAGING), health="Degraded", revision=commit, seconds=_DEADLINE)
    waited = system.clone.try_gitops("release", MODEL, *bad.options, "--wait")
    assert waited.returncode == 1
    assert "Degraded" in waited.stderr
    assert system.replica_set(STAGING) == old
    assert system.ask(STAGING)[0] == "1.1.0"
    back = system.rollback(STAGING)

    assert system.replica_set(STAGING) == old
    _never_ready(system, bad)
    print(f"{kind}: reverted {back.all - back.pushed:.1f} s after the push")


def _made(system: System, bad: Pushed) -> None:
    system.pods[STAGING].wait(
        "a pod of the bad release", lambda pods: any(pod.image == bad.release.reference for pod in pods)
    )


def _never_ready(system: System, bad: Pushed) -> None:
    pods = [pod for pod in system.pods[STAGING].all() if pod.image == bad.release.reference]
    assert pods
    assert not [pod for pod in pods if pod.ready]
