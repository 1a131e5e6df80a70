"""A rollback is a revert, and brings back the very same pods' template: hash, UID, ConfigMap."""

from collections.abc import Callable

import pytest

from gitops.layout import PROD, STAGING
from tests.cluster.system import Change, System


def _by_the_tool(system: System, environment: str, promoted: Change) -> Change:
    return system.rollback(environment)


def _by_plain_git(system: System, environment: str, promoted: Change) -> Change:
    return system.revert(environment, promoted.commit)


@pytest.mark.parametrize("way", [_by_the_tool, _by_plain_git], ids=["forest-gitops rollback", "git revert"])
@pytest.mark.parametrize("environment", [STAGING, PROD])
def test_the_very_same_replica_set_and_settings_serve_again(
    system: System, environment: str, way: Callable[[System, str, Change], Change]
) -> None:
    system.bring(environment, "1.0.0")
    if environment == PROD:
        system.bring(STAGING, "1.1.0")
    old, settings = system.replica_set(environment), system.settings(environment)
    forward = system.release("1.1.0") if environment == STAGING else system.promote()
    new = system.replica_set(environment)
    assert new != old

    back = way(system, environment, forward)

    assert system.replica_set(environment) == old
    assert system.settings(environment) == settings
    assert back.after.version == "1.0.0"
    system.answered_by(environment, back.after)
    # Its pods are scaled down; it stays, for the day on which the release returns.
    assert new in system.replica_sets(environment)
    print(f"{environment}: the old pods serve again {back.all - back.pushed:.1f} s after the push")
