"""Rendered manifests, read."""

from collections.abc import Iterator, Sequence
from typing import Any

from gitops.error import GitopsError

Manifest = dict[str, Any]


def read(rendered: str) -> list[Manifest]:
    """Return the objects of a rendering, in its order."""
    try:
        import yaml  # noqa: PLC0415 - what needs no rendering works without it
    except ModuleNotFoundError as error:
        raise GitopsError("PyYAML is absent: install forest-serving[gitops]") from error
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        return [document for document in yaml.load_all(rendered, loader) if document]
    except yaml.YAMLError as error:
        raise GitopsError(f"not YAML: {' '.join(str(error).split())}") from error


def of_kind(manifests: Sequence[Manifest], *kinds: str) -> Iterator[Manifest]:
    """Yield the objects of some kinds."""
    return (manifest for manifest in manifests if manifest["kind"] in kinds)


def name(manifest: Manifest) -> str:
    """Return what messages call an object."""
    return f"{manifest['kind']} {manifest['metadata']['name']}"


def pod_templates(manifests: Sequence[Manifest]) -> dict[str, Any]:
    """Return the pod template of every Deployment, by name: what decides which ReplicaSet runs."""
    return {
        manifest["metadata"]["name"]: manifest["spec"]["template"]
        for manifest in of_kind(manifests, "Deployment")
    }


def workloads(manifests: Sequence[Manifest]) -> dict[str, Any]:
    """Return the pod template of whatever makes pods, by what messages call it."""
    found = {name(manifest): manifest["spec"]["template"] for manifest in of_kind(manifests, "Deployment")}
    for manifest in of_kind(manifests, "CronJob"):
        found[name(manifest)] = manifest["spec"]["jobTemplate"]["spec"]["template"]
    return found


def containers(template: Manifest) -> list[Manifest]:
    """Return every container of a pod template, those that start before the others too."""
    spec = template["spec"]
    return [*spec.get("initContainers", []), *spec.get("containers", [])]


def variables(manifests: Sequence[Manifest], container: Manifest) -> dict[str, str]:
    """Return the environment that a container gets from ConfigMaps and from its own list, which wins.

    A variable whose value is not in the manifests (a Secret's, a field's) is not returned.
    """
    maps = {entry["metadata"]["name"]: entry.get("data", {}) for entry in of_kind(manifests, "ConfigMap")}
    found: dict[str, str] = {}
    for source in container.get("envFrom", []):
        prefix = source.get("prefix", "")
        data = maps.get(source.get("configMapRef", {}).get("name"), {})
        found |= {prefix + key: value for key, value in data.items()}
    for variable in container.get("env", []):
        reference = variable.get("valueFrom", {}).get("configMapKeyRef", {})
        value = variable.get("value", maps.get(reference.get("name"), {}).get(reference.get("key")))
        if value is not None:
            found[variable["name"]] = value
    return found
