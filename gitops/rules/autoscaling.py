"""What a HorizontalPodAutoscaler needs, and what it may not share with Git."""

from collections.abc import Iterator

from gitops import manifests
from gitops.manifests import Manifest
from gitops.tree import Overlay


def replicas_left_to_the_autoscaler(overlay: Overlay) -> Iterator[str]:
    """Under an autoscaler, Git says no replicas: each sync would fight it."""
    for scaler, deployment in _scaled(overlay):
        if "replicas" in deployment["spec"]:
            yield (
                f"{manifests.name(deployment)} has replicas, and {manifests.name(scaler)} rules "
                "them: take `replicas` "
                "out of the Deployment, and set minReplicas instead"
            )


def requests_present(overlay: Overlay) -> Iterator[str]:
    """Every container requests what the autoscaler measures a share of: else that is Degraded for ever."""
    for scaler, deployment in _scaled(overlay):
        for metric in scaler["spec"].get("metrics", []):
            resource = metric.get("resource", {})
            if resource.get("target", {}).get("type") != "Utilization":
                continue
            for container in deployment["spec"]["template"]["spec"]["containers"]:
                if resource["name"] not in container.get("resources", {}).get("requests", {}):
                    yield (
                        f"container {container['name']} requests no {resource['name']}, of which "
                        f"{manifests.name(scaler)} measures a share: add "
                        f"resources.requests.{resource['name']}"
                    )


def metrics_in_order(overlay: Overlay) -> Iterator[str]:
    """CPU utilization comes last: read back as autoscaling/v1, which has a field for it, it is put there."""
    for scaler in manifests.of_kind(overlay.manifests, "HorizontalPodAutoscaler"):
        metrics = scaler["spec"].get("metrics", [])
        if any(_is_cpu(metric) for metric in metrics[:-1]):
            yield (
                f"{manifests.name(scaler)} does not have its CPU metric last, where the API "
                "server may put it: write "
                "memory, then CPU, or Argo CD shows a difference that nobody made"
            )


def _scaled(overlay: Overlay) -> Iterator[tuple[Manifest, Manifest]]:
    deployments = {
        item["metadata"]["name"]: item for item in manifests.of_kind(overlay.manifests, "Deployment")
    }
    for scaler in manifests.of_kind(overlay.manifests, "HorizontalPodAutoscaler"):
        target = scaler["spec"]["scaleTargetRef"]
        if target["kind"] == "Deployment" and target["name"] in deployments:
            yield scaler, deployments[target["name"]]


def _is_cpu(metric: Manifest) -> bool:
    resource = metric.get("resource", {})
    return bool(resource.get("name") == "cpu" and resource.get("target", {}).get("type") == "Utilization")
