"""Rendered manifests, read."""

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
    return [document for document in yaml.load_all(rendered, loader) if document]


def pod_templates(rendered: str) -> dict[str, Any]:
    """Return the pod template of every Deployment, by name: what decides which ReplicaSet runs."""
    return {
        manifest["metadata"]["name"]: manifest["spec"]["template"]
        for manifest in read(rendered)
        if manifest["kind"] == "Deployment"
    }
