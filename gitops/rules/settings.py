"""ConfigMaps: immutable, named by their content, and there."""

import re
from collections.abc import Iterator

from gitops import manifests
from gitops.manifests import Manifest
from gitops.tree import Overlay

# The server looks at this one while it runs: its name stays, and its content may change.
_FOLLOWED = "forest-log-level"
_HASHED = re.compile(r".+-[2456789bcdfghkmt]{10}")


def settings_immutable(overlay: Overlay) -> Iterator[str]:
    """A ConfigMap never changes: a merge in a layer above silently drops `immutable`."""
    for settings in _unfollowed(overlay):
        if settings.get("immutable") is not True:
            yield (
                f"{manifests.name(settings)} is not immutable: say `options: {{immutable: true}}` "
                "again in every "
                "configMapGenerator that merges into it"
            )


def settings_named_by_content(overlay: Overlay) -> Iterator[str]:
    """A ConfigMap's name has its content's hash, so that a revert finds the old one."""
    for settings in _unfollowed(overlay):
        if not _HASHED.fullmatch(settings["metadata"]["name"]):
            yield (
                f"{manifests.name(settings)} has no hash in its name: make it by configMapGenerator, without "
                "disableNameSuffixHash"
            )


def _unfollowed(overlay: Overlay) -> Iterator[Manifest]:
    for settings in manifests.of_kind(overlay.manifests, "ConfigMap"):
        if not settings["metadata"]["name"].endswith(_FOLLOWED):
            yield settings


def settings_present(overlay: Overlay) -> Iterator[str]:
    """Every ConfigMap that a pod asks for is rendered beside it."""
    known = {item["metadata"]["name"] for item in manifests.of_kind(overlay.manifests, "ConfigMap")}
    for place, template in manifests.workloads(overlay.manifests).items():
        asked = [volume.get("configMap", {}).get("name") for volume in template["spec"].get("volumes", [])]
        for container in manifests.containers(template):
            asked += [source.get("configMapRef", {}).get("name") for source in container.get("envFrom", [])]
            asked += [
                entry.get("valueFrom", {}).get("configMapKeyRef", {}).get("name")
                for entry in container.get("env", [])
            ]
        for missing in sorted({name for name in asked if name} - known):
            yield (
                f"{place} asks for ConfigMap {missing}, which is not rendered: generate it, under the "
                "name that is used there"
            )
