"""There and back: a version is released or promoted, and taken back by a revert."""

from collections.abc import Callable

from gitops.layout import PROD, STAGING
from tests.cluster.system import Change, System

Way = Callable[[System, str, Change], Change]


def by_the_tool(system: System, environment: str, forward: Change) -> Change:
    """Roll back by ``forest-gitops``."""
    return system.rollback(environment)


def by_plain_git(system: System, environment: str, forward: Change) -> Change:
    """Roll back as somebody does who has nothing but git."""
    return system.revert(environment, forward.commit)


WAYS = {"forest-gitops rollback": by_the_tool, "git revert": by_plain_git}


def there_and_back(system: System, environment: str, way: Way) -> None:
    """Check that the very same pods' template and settings serve again: hash, UID, ConfigMap."""
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
