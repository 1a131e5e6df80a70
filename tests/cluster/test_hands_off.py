"""What is changed by hand: staging heals, production shows."""

from collections.abc import Callable

import pytest

from gitops.layout import PROD, STAGING
from tests.cluster.clone import MODEL
from tests.cluster.kubernetes import until
from tests.cluster.system import System, application, namespace

_NAME = f"{MODEL}-forest"


def _set_image(system: System, environment: str) -> Callable[[], bool]:
    where = namespace(environment)
    other = next(
        image.release.reference
        for image in system.images.values()
        if image.release.reference != system.image(where)
    )
    system.kubernetes.run("set", "image", f"--namespace={where}", f"deployment/{_NAME}", f"server={other}")
    return lambda: system.image(where) != other


def _undo(system: System, environment: str) -> Callable[[], bool]:
    where = namespace(environment)
    before = system.image(where)
    system.kubernetes.run("rollout", "undo", f"--namespace={where}", f"deployment/{_NAME}")
    # Its pods start, and may answer.
    undone_to = system.image(where)
    for image in system.images.values():
        if image.release.reference == undone_to:
            system.say(environment, image.release)
    return lambda: system.image(where) == before


def _delete_service(system: System, environment: str) -> Callable[[], bool]:
    where = namespace(environment)
    name = f"{_NAME}-headless"
    old = system.kubernetes.get("service", name, where)["metadata"]["uid"]
    system.kubernetes.run("delete", "service", name, f"--namespace={where}")
    return lambda: (
        system.kubernetes.exists("service", name, where)
        and system.kubernetes.get("service", name, where)["metadata"]["uid"] != old
    )


def _edit_settings(system: System, environment: str) -> Callable[[], bool]:
    """Change the ConfigMap. Its data cannot be changed, so it is replaced, as someone would in a hurry."""
    where, name = namespace(environment), system.settings(environment)[0]
    map_ = system.kubernetes.get("configmap", name, where)
    wrong = {**map_["data"], "FOREST_DRAIN_TIMEOUT": "1"}
    refused = system.kubernetes.try_run(
        "patch",
        "configmap",
        name,
        f"--namespace={where}",
        "--patch",
        '{"data": {"FOREST_DRAIN_TIMEOUT": "1"}}',
    )
    assert b"immutable" in refused.stderr
    system.kubernetes.run("delete", "configmap", name, f"--namespace={where}")
    meta = {
        "name": name,
        "labels": map_["metadata"]["labels"],
        "annotations": map_["metadata"]["annotations"],
    }
    system.kubernetes.apply(
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": wrong}, namespace=where
    )
    return lambda: (
        system.kubernetes.exists("configmap", name, where)
        and system.kubernetes.get("configmap", name, where)["data"] == map_["data"]
    )


_HANDS = [_set_image, _undo, _delete_service, _edit_settings]
_NAMES = ["kubectl set image", "kubectl rollout undo", "a deleted Service", "an edited ConfigMap"]


@pytest.mark.parametrize("hand", _HANDS, ids=_NAMES)
def test_staging_undoes_it(system: System, hand: Callable[[System, str], Callable[[], bool]]) -> None:
    system.bring(STAGING, "1.1.0")
    held = system.clone.held(STAGING)

    undone = hand(system, STAGING)

    until("staging is as Git says", undone, seconds=60)
    system.say(STAGING, held)
    system.argocd.wait(application(STAGING))
    system.pods[STAGING].wait_for_image(held.reference)


@pytest.mark.parametrize("hand", _HANDS, ids=_NAMES)
def test_production_shows_it_until_somebody_presses_sync(
    system: System, hand: Callable[[System, str], Callable[[], bool]]
) -> None:
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
