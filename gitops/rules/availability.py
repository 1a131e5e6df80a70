"""Pods that stay while nodes go, and that are spread release by release."""

from collections.abc import Iterator

from gitops import manifests
from gitops.tree import Overlay


def budget_lets_nodes_drain(overlay: Overlay) -> Iterator[str]:
    """A budget lets one pod at a time go, and does not keep a node for a pod that serves nobody."""
    budgets = list(manifests.of_kind(overlay.manifests, "PodDisruptionBudget"))
    if not budgets:
        yield "there is no PodDisruptionBudget: add one, or a node's drain takes all pods at once"
    for budget in budgets:
        spec = budget["spec"]
        if spec.get("maxUnavailable") != 1 or "minAvailable" in spec:
            yield (
                f"{manifests.name(budget)} does not say maxUnavailable: 1: say it, and no minAvailable, "
                "which holds up a node's drain whenever the autoscaler is at its minimum"
            )
        if spec.get("unhealthyPodEvictionPolicy") != "AlwaysAllow":
            yield (
                f"{manifests.name(budget)} lacks unhealthyPodEvictionPolicy: AlwaysAllow: add it, or pods of "
                "a release that does not come up hold up a node's drain"
            )


def pods_spread_by_release(overlay: Overlay) -> Iterator[str]:
    """Pods are spread, and those of the ReplicaSet that goes do not count."""
    for deployment, template in manifests.pod_templates(overlay.manifests).items():
        constraints = template["spec"].get("topologySpreadConstraints", [])
        if not constraints:
            yield (
                f"Deployment {deployment} has no topologySpreadConstraints: add them, or one node's end may "
                "be that of all pods"
            )
        for constraint in constraints:
            if "pod-template-hash" not in constraint.get("matchLabelKeys", []):
                yield (
                    f"Deployment {deployment}: the spread over {constraint.get('topologyKey')} counts pods "
                    "of other releases: add matchLabelKeys: [pod-template-hash], or a rollback ends up on "
                    "few nodes"
                )
