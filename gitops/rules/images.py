"""A release pins the image that runs, and that image is the one that runs."""

import re
from collections.abc import Iterator

from gitops import manifests
from gitops.release import CONTAINER, IMAGE
from gitops.tree import Overlay

_PINNED = re.compile(r"[^@\s]+:(?P<tag>[A-Za-z0-9_][A-Za-z0-9._-]*)@sha256:[0-9a-f]{64}")


def image_pinned(overlay: Overlay) -> Iterator[str]:
    """Every image has a tag that says something, and a digest."""
    for place, template in manifests.workloads(overlay.manifests).items():
        for container in manifests.containers(template):
            image = container.get("image", "")
            found = _PINNED.fullmatch(image)
            if image and (not found or found["tag"] == "latest"):
                yield (
                    f"{place}: container {container['name']} runs {image}, which is not "
                    "REPOSITORY:TAG@sha256:…: pin it, for what a tag means can change under a rollback"
                )


def image_released(overlay: Overlay) -> Iterator[str]:
    """The server's container runs the release's image: a typo in a name changes nothing, silently."""
    if overlay.release is None:
        return
    images = [
        container.get("image")
        for template in manifests.pod_templates(overlay.manifests).values()
        for container in manifests.containers(template)
        if container["name"] == CONTAINER
    ]
    if images != [overlay.release.reference]:
        yield (
            f"the release is {overlay.release.reference}, but container {CONTAINER} runs "
            f"{', '.join(map(str, images)) or 'nowhere'}: the base's image must be called "
            f"{IMAGE}, no layer below may "
            "have an `images` entry for it, and the overlay must list `release` among its components, last"
        )


def container_known(overlay: Overlay) -> Iterator[str]:
    """A patch for a container that is not there adds one, without an image."""
    for place, template in manifests.workloads(overlay.manifests).items():
        for container in manifests.containers(template):
            if not container.get("image"):
                yield (
                    f"{place}: container {container['name']} has no image, so a "
                    "patch made it: the "
                    f"release's patch is for {CONTAINER}, which must be the base's name; mend "
                    "whichever is mistyped"
                )
