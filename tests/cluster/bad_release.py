"""Releases that do not come up, each in its own way."""

import time
from dataclasses import dataclass
from pathlib import Path

from gitops.layout import STAGING
from gitops.release import Release
from model_bundle.bundle import read_manifest
from tests.cluster.clone import MODEL
from tests.cluster.images import Images, Pushed
from tests.cluster.system import System


def _crashing(images: Images, bundles: dict[str, Path]) -> Pushed:
    # The server refuses a setting that it does not know.
    return images.build(bundles["1.2.0"], last="ENV FOREST_NO_SUCH_SETTING=1")


def _of_another_bundle(images: Images, bundles: dict[str, Path]) -> Pushed:
    return images.build(bundles["1.3.0"], said=bundles["another 1.3.0"])


def _without_image(images: Images, bundles: dict[str, Path]) -> Pushed:
    bundle = bundles["1.4.0"]
    _, digest = read_manifest(bundle)
    return Pushed(Release(images.repository(MODEL), bundle.name, "0.1.0", f"sha256:{0:064d}", digest), bundle)


KINDS = {
    "wrong bundle digest": _of_another_bundle,
    "crash at start": _crashing,
    "image that does not exist": _without_image,
}
# Two minutes for each kind: one of them is waited for until its deadline, also without --soak.
WAITED_FOR = "wrong bundle digest"


@dataclass(frozen=True, slots=True)
class BadRelease:
    """A bad release that staging has, and what it had before.

    Attributes
    ----------
    pushed : Pushed
        What is bad.
    commit : str
        The commit that released it.
    before : Release
        What staging held.
    old : (str, str)
        The ReplicaSet that served it: name and UID.
    begun : float
        When Argo CD had applied the commit, in Unix seconds.
    """

    system: System
    pushed: Pushed
    commit: str
    before: Release
    old: tuple[str, str]
    begun: float

    def serves_on(self) -> None:
        """Check that the old pods serve, and none of the bad ones ever did."""
        assert self.system.replica_set(STAGING) == self.old
        found = [pod for pod in self.system.pods[STAGING].all() if pod.image == self.pushed.release.reference]
        assert found
        assert not [pod for pod in found if pod.ready]

    def taken_back(self) -> float:
        """Roll it back, and return how long that took from the push to the old release alone, in seconds."""
        back = self.system.rollback(STAGING)
        assert back.after == self.before
        self.serves_on()
        return back.all - back.pushed


def release(system: System, images: Images, bundles: dict[str, Path], kind: str) -> BadRelease:
    """Release something bad to staging, and return when there is a pod of it."""
    system.bring(STAGING, "1.1.0")
    old, before = system.replica_set(STAGING), system.clone.held(STAGING)
    bad = KINDS[kind](images, bundles)
    commit = system.clone.release(bad)
    system.noticed(STAGING, commit)
    system.synced(STAGING, commit)
    begun = time.time()
    system.pods[STAGING].wait(
        "a pod of the bad release", lambda pods: any(pod.image == bad.release.reference for pod in pods)
    )
    return BadRelease(system, bad, commit, before, old, begun)
