"""Pod Security `restricted`, said before the cluster says it; and what this server asks for besides."""

from collections.abc import Iterator

from gitops import manifests
from gitops.tree import Overlay, Tree

_VOLUMES = {
    "configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected",
    "secret",
}  # fmt: skip
_ENFORCE = "pod-security.kubernetes.io/enforce"


def pod_restricted(overlay: Overlay) -> Iterator[str]:
    """A pod template passes Pod Security `restricted`: else nobody makes a pod of it."""
    for place, template in manifests.workloads(overlay.manifests).items():
        spec = template["spec"]
        context = spec.get("securityContext", {})
        for field in ("hostNetwork", "hostPID", "hostIPC"):
            if spec.get(field):
                yield f"{place}: {field} is forbidden by Pod Security restricted: take it out"
        for volume in spec.get("volumes", []):
            if other := set(volume) - {"name"} - _VOLUMES:
                yield (
                    f"{place}: volume {volume['name']} is {', '.join(other)}, forbidden by Pod "
                    "Security restricted: "
                    f"use one of {', '.join(sorted(_VOLUMES))}"
                )
        for container in manifests.containers(template):
            own = container.get("securityContext", {})
            wanted = {
                "allowPrivilegeEscalation: false": own.get("allowPrivilegeEscalation") is False,
                "capabilities: {drop: [ALL]}": "ALL" in own.get("capabilities", {}).get("drop", [])
                and set(own.get("capabilities", {}).get("add", [])) <= {"NET_BIND_SERVICE"},
                "runAsNonRoot: true": own.get("runAsNonRoot", context.get("runAsNonRoot")) is True,
                "runAsUser that is not 0": own.get("runAsUser", context.get("runAsUser")) != 0,
                "seccompProfile: {type: RuntimeDefault}": own.get(
                    "seccompProfile", context.get("seccompProfile", {})
                ).get("type")
                in {"RuntimeDefault", "Localhost"},
                "privileged left out": not own.get("privileged"),
                "ports without hostPort": not any(
                    port.get("hostPort") for port in container.get("ports", [])
                ),
                "readOnlyRootFilesystem: true": own.get("readOnlyRootFilesystem") is True,
            }
            for wish, met in wanted.items():
                if not met:
                    yield (
                        f"{place}: container {container['name']} lacks {wish}, which Pod Security "
                        "restricted (or, for "
                        "the root file system, this house) asks for: add it to its securityContext"
                    )


def namespace_restricted(tree: Tree) -> Iterator[str]:
    """Every namespace enforces `restricted`, and what runs is in one that is rendered with it."""
    apps = {app.model: app.manifests for app in tree.apps}
    for environment, found in (*tree.environments.items(), *apps.items()):
        namespaces = {item["metadata"]["name"]: item for item in manifests.of_kind(found, "Namespace")}
        for namespace in namespaces.values():
            if namespace["metadata"].get("labels", {}).get(_ENFORCE) != "restricted":
                yield (
                    f"{manifests.name(namespace)} ({environment}) lacks the label {_ENFORCE}: "
                    "restricted: add it"
                )
        for deployment in manifests.of_kind(found, "Deployment"):
            if deployment["metadata"].get("namespace") not in namespaces:
                yield (
                    f"{manifests.name(deployment)} ({environment}) is in namespace "
                    f"{deployment['metadata'].get('namespace')}, which is not rendered there: set "
                    "`namespace` in the environment's envs component"
                )


def service_links_off(overlay: Overlay) -> Iterator[str]:
    """For a Service forest-… Kubernetes adds variables FOREST_…, which the server refuses."""
    for place, template in manifests.workloads(overlay.manifests).items():
        if template["spec"].get("enableServiceLinks") is not False:
            yield (
                f"{place}: set enableServiceLinks: false, or a Service called forest-… puts variables "
                "FOREST_… into the container, and the server does not start"
            )


def token_not_mounted(overlay: Overlay) -> Iterator[str]:
    """No pod asks anything of Kubernetes: none has a token."""
    for place, template in manifests.workloads(overlay.manifests).items():
        if template["spec"].get("automountServiceAccountToken") is not False:
            yield (f"{place}: set automountServiceAccountToken: false, for it needs no token")


def secrets_by_reference(overlay: Overlay) -> Iterator[str]:
    """No Secret is rendered: what Git holds, everybody who reads it holds."""
    for secret in manifests.of_kind(overlay.manifests, "Secret"):
        yield (
            f"{manifests.name(secret)} is in Git: take it out, change what it held, and let the cluster make "
            "it (docs/deployment.md says who makes each Secret)"
        )
