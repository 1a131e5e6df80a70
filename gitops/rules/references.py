"""Names that kustomize rewrites in one place, and may have left alone in another."""

from collections.abc import Iterator

from gitops import manifests
from gitops.manifests import Manifest
from gitops.tree import Overlay


def references_found(overlay: Overlay) -> Iterator[str]:
    """What an object names is rendered beside it: a model's prefix does not reach every field by itself."""
    there = {(item["kind"], item["metadata"]["name"]) for item in overlay.manifests}
    for item in overlay.manifests:
        for kind, name in _named(item):
            if (kind, name) not in there:
                yield (
                    f"{manifests.name(item)} names {kind} {name}, which is not rendered: name it as the base "
                    "calls it; where kustomize does not know the field, `configurations` with a "
                    "nameReference tells it (components/gateway/names.yaml does)"
                )


def _named(item: Manifest) -> Iterator[tuple[str, str]]:
    spec = item.get("spec", {})
    if item["kind"] == "HorizontalPodAutoscaler":
        yield spec["scaleTargetRef"]["kind"], spec["scaleTargetRef"]["name"]
    elif item["kind"] in ("Deployment", "CronJob"):
        (template,) = manifests.workloads([item]).values()
        name = template["spec"].get("serviceAccountName", "default")
        if name != "default":
            yield "ServiceAccount", name
    elif item["kind"] == "GRPCRoute":
        for rule in spec.get("rules", []):
            for backend in rule.get("backendRefs", []):
                yield backend.get("kind", "Service"), backend["name"]
    elif item["kind"] == "Ingress":
        for rule in spec.get("rules", []):
            for path in rule.get("http", {}).get("paths", []):
                if service := path["backend"].get("service"):
                    yield "Service", service["name"]
