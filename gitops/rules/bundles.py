"""Where a release pins a bundle, nothing else may swap it."""

from collections.abc import Iterator

from gitops import manifests
from gitops.release import CONTAINER, DIGEST_VARIABLE
from gitops.tree import Overlay

# The image has its models where FOREST_MODELS says; a deployment that says otherwise serves something else.
_SWAPPING = {"FOREST_MODELS": "reads another folder", "FOREST_WATCH": "follows a folder"}
_FLAGS = {"--models": "reads another folder", "--watch": "follows a folder"}
# Where the image keeps bundles.
MODELS = "/models"


def bundle_not_swapped(overlay: Overlay) -> Iterator[str]:
    """The bundle is the image's own: no folder is followed, none is mounted over it, no command differs."""
    for template in manifests.pod_templates(overlay.manifests).values():
        for container in manifests.containers(template):
            known = manifests.variables(overlay.manifests, container)
            if container["name"] != CONTAINER or DIGEST_VARIABLE not in known:
                continue
            for variable, does in _SWAPPING.items():
                if variable in known:
                    yield f"{variable} {does}, while the release pins a bundle: take {variable} out"
            for argument in [*container.get("command", []), *container.get("args", [])]:
                flag = str(argument).split("=", 1)[0]
                if flag in _FLAGS:
                    yield f"{flag} {_FLAGS[flag]}, while the release pins a bundle: take {flag} out"
            for mount in container.get("volumeMounts", []):
                path = mount["mountPath"].rstrip("/")
                if f"{MODELS}/".startswith(f"{path}/") or path.startswith(f"{MODELS}/"):
                    yield (
                        f"volume {mount['name']} is mounted at {mount['mountPath']}, over the "
                        "image's bundle in "
                        f"{MODELS}, while the release pins that: mount it elsewhere"
                    )
