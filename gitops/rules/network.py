"""NetworkPolicies say what was meant."""

from collections.abc import Iterator

from gitops import manifests
from gitops.tree import Overlay


def peers_not_rewritten(overlay: Overlay) -> Iterator[str]:
    """A kustomization that adds labels to selectors adds them to a policy's peers as well."""
    own = {
        label
        for template in manifests.workloads(overlay.manifests).values()
        for label in template["metadata"].get("labels", {}).items()
    }
    for policy in manifests.of_kind(overlay.manifests, "NetworkPolicy"):
        rules = [
            (direction, peer)
            for direction, peers in (("ingress", "from"), ("egress", "to"))
            for rule in policy["spec"].get(direction) or []
            for peer in rule.get(peers) or []
        ]
        for direction, peer in rules:
            for selector in ("podSelector", "namespaceSelector"):
                added = own & set((peer.get(selector) or {}).get("matchLabels", {}).items())
                if added:
                    labels = ", ".join(f"{key}={value}" for key, value in sorted(added))
                    yield (
                        f"{manifests.name(policy)}: a peer of its {direction} must have {labels}, "
                        "the model's own: "
                        "kustomize added that to matchLabels, so choose peers by matchExpressions"
                    )
