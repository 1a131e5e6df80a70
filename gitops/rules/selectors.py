"""Selectors: chosen once, and each choosing something."""

from collections.abc import Iterator, Sequence
from typing import Any

from gitops import manifests
from gitops.manifests import Manifest
from gitops.tree import Overlay, Tree


def selector_unchanged(tree: Tree) -> Iterator[str]:
    """A Deployment's selector is immutable in the cluster: a sync of another one fails."""
    for overlay in tree.overlays:
        before = _selectors(tree.before.get(overlay.environment, ()))
        for deployment, selector in _selectors(overlay.manifests).items():
            if before.get(deployment, selector) != selector:
                yield (
                    f"{overlay.folder}: Deployment {deployment} selects {_text(selector)}, and did select "
                    f"{_text(before[deployment])}: a selector cannot change in place, so put it "
                    "back (labels that "
                    "may change go without includeSelectors), or give the Deployment another name"
                )


def selector_finds_pods(overlay: Overlay) -> Iterator[str]:
    """What selects pods selects the model's own, by a label at least."""
    templates = manifests.workloads(overlay.manifests).values()
    labels = [template["metadata"].get("labels", {}) for template in templates]
    kinds = ("Deployment", "Service", "PodDisruptionBudget", "NetworkPolicy")
    for item in manifests.of_kind(overlay.manifests, *kinds):
        spec = item["spec"]
        selector = spec.get("podSelector" if item["kind"] == "NetworkPolicy" else "selector") or {}
        if item["kind"] == "NetworkPolicy" and not selector and not {"ingress", "egress"} & spec.keys():
            continue  # a namespace's default, which lets nobody in or out
        chosen = selector if item["kind"] == "Service" else selector.get("matchLabels", {})
        if not chosen or not any(chosen.items() <= pod.items() for pod in labels):
            yield (
                f"{manifests.name(item)} selects {_text(chosen)}, which is on no pod here: let "
                "one `labels` entry with "
                "includeSelectors give both"
            )


def _selectors(found: Sequence[Manifest]) -> dict[str, Any]:
    return {
        item["metadata"]["name"]: item["spec"]["selector"] for item in manifests.of_kind(found, "Deployment")
    }


def _text(selector: Manifest) -> str:
    labels = selector.get("matchLabels", selector)
    return ", ".join(f"{key}={value}" for key, value in labels.items()) or "nothing"
