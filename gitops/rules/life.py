"""A pod's life: probes that work, time enough to drain, and a rollout that ends."""

from collections.abc import Iterator

from gitops import manifests
from gitops.manifests import Manifest
from gitops.release import CONTAINER
from gitops.tree import Overlay

# The server's own, in server/config.py; a test holds them equal.
DEFAULTS = {
    "FOREST_LEAVE_TIMEOUT": 0.0,
    "FOREST_DRAIN_TIMEOUT": 45.0,
    "FOREST_STOP_GRACE": 10.0,
    "FOREST_MAX_CONNECTION_AGE": 30.0,
}
# Above what adds up: to start the hook, to close down, to flush what is written.
MARGIN = 5
# A sync waits for a rollout as long, and a revert waits for that sync.
LONGEST_ROLLOUT = 180
_PROBES = ("startupProbe", "readinessProbe", "livenessProbe")


def grace_adds_up(overlay: Overlay) -> Iterator[str]:
    """The pod is killed only after preStop, leave, drain and stop have had their time."""
    for deployment, template, server in _servers(overlay):
        grace = template["spec"].get("terminationGracePeriodSeconds", 30)
        hook = server.get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
        settings = DEFAULTS | manifests.variables(overlay.manifests, server)
        try:
            leave, drain, stop, age = (float(settings[name]) for name in DEFAULTS)
        except ValueError as error:
            yield f"Deployment {deployment}: a setting of the server's times is not a number: {error}"
            continue
        needed = hook + leave + drain + stop + MARGIN
        if grace < needed:
            yield (
                f"Deployment {deployment}: terminationGracePeriodSeconds {grace} is below "
                f"{needed:g} (preStop {hook} + "
                f"leave {leave:g} + drain {drain:g} + stop {stop:g} + {MARGIN}): raise it, or calls in hand "
                "are lost"
            )
        if drain < 1.1 * age:
            yield (
                f"Deployment {deployment}: FOREST_DRAIN_TIMEOUT {drain:g} is below 1.1 times "
                "FOREST_MAX_CONNECTION_AGE "
                f"{age:g}: the server would not start; raise the one or lower the other"
            )


def hook_without_a_shell(overlay: Overlay) -> Iterator[str]:
    """PreStop sleeps by the kubelet: the image has no shell, and a hook that fails gives no time."""
    for deployment, _, server in _servers(overlay):
        if not server.get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds"):
            yield (
                f"Deployment {deployment}: container {CONTAINER} has no preStop.sleep.seconds: "
                "add it, so that "
                "balancers stop sending before the server drains"
            )


def probes_numeric(overlay: Overlay) -> Iterator[str]:
    """All three probes are gRPC's own, on a port by number: they take no name."""
    for deployment, _, server in _servers(overlay):
        ports = {port["containerPort"] for port in server.get("ports", [])}
        for probe in _PROBES:
            port = server.get(probe, {}).get("grpc", {}).get("port")
            if type(port) is not int or port not in ports:
                yield (
                    f"Deployment {deployment}: {probe} has the gRPC port {port}, and the container has "
                    f"{', '.join(map(str, sorted(ports)))}: give the health port's number"
                )


def rollout_ends(overlay: Overlay) -> Iterator[str]:
    """A release that does not come up is given up soon: until then its revert may have to wait."""
    for deployment in manifests.of_kind(overlay.manifests, "Deployment"):
        deadline = deployment["spec"].get("progressDeadlineSeconds", 600)
        if deadline > LONGEST_ROLLOUT:
            yield (
                f"{manifests.name(deployment)}: progressDeadlineSeconds is {deadline}: set it, to "
                f"{LONGEST_ROLLOUT} at most, for a sync that is stuck delays the revert"
            )
        for container in deployment["spec"]["template"]["spec"]["containers"]:
            probe = container.get("startupProbe", {})
            starts = probe.get("initialDelaySeconds", 0) + probe.get("periodSeconds", 10) * probe.get(
                "failureThreshold", 3
            )
            if starts >= deadline:
                yield (
                    f"{manifests.name(deployment)}: the startup probe waits {starts} s, and "
                    "progressDeadlineSeconds "
                    f"is {deadline}: a slow start would count as a failed release; let the probe wait less"
                )


def _servers(overlay: Overlay) -> Iterator[tuple[str, Manifest, Manifest]]:
    for deployment, template in manifests.pod_templates(overlay.manifests).items():
        for container in manifests.containers(template):
            if container["name"] == CONTAINER:
                yield deployment, template, container
