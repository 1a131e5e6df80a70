"""What somebody changes by hand, past Git; each answers whether that is undone."""

from collections.abc import Callable

from tests.cluster.clone import MODEL
from tests.cluster.system import System, namespace

Hand = Callable[[System, str], Callable[[], bool]]

_NAME = f"{MODEL}-forest"


def set_image(system: System, environment: str) -> Callable[[], bool]:
    """Have the Deployment run another version."""
    where = namespace(environment)
    other = next(
        image.release.reference
        for image in system.images.values()
        if image.release.reference != system.image(where)
    )
    system.kubernetes.run("set", "image", f"--namespace={where}", f"deployment/{_NAME}", f"server={other}")
    return lambda: system.image(where) != other


def undo(system: System, environment: str) -> Callable[[], bool]:
    """Have the Deployment run what it ran before."""
    where = namespace(environment)
    before = system.image(where)
    system.kubernetes.run("rollout", "undo", f"--namespace={where}", f"deployment/{_NAME}")
    # Its pods start, and may answer.
    undone_to = system.image(where)
    for image in system.images.values():
        if image.release.reference == undone_to:
            system.say(environment, image.release)
    return lambda: system.image(where) == before


def delete_service(system: System, environment: str) -> Callable[[], bool]:
    """Delete the Service that clients look the pods up by."""
    where = namespace(environment)
    name = f"{_NAME}-headless"
    old = system.kubernetes.get("service", name, where)["metadata"]["uid"]
    system.kubernetes.run("delete", "service", name, f"--namespace={where}")
    return lambda: (
        system.kubernetes.exists("service", name, where)
        and system.kubernetes.get("service", name, where)["metadata"]["uid"] != old
    )


def edit_settings(system: System, environment: str) -> Callable[[], bool]:
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


HANDS: dict[str, Hand] = {
    "kubectl set image": set_image,
    "kubectl rollout undo": undo,
    "a deleted Service": delete_service,
    "an edited ConfigMap": edit_settings,
}
