"""metrics-server: what pods use, for autoscalers."""

from tests.cluster.node import kubeconfig
from tests.cluster.node.binaries import binary
from tests.cluster.node.command import succeeds
from tests.cluster.node.kubelet import kubectl
from tests.cluster.node.part import Part
from tests.cluster.node.place import KEYS


def part() -> Part:
    """Return metrics-server. The API server finds it by `manifests/metrics.yaml`."""
    return Part(
        "metrics-server",
        (
            binary("metrics-server"),
            *kubeconfig.flags("admin", "metrics"),
            "--secure-port=4443",
            f"--kubelet-certificate-authority={KEYS / 'ca.crt'}",
            "--kubelet-preferred-address-types=InternalIP",
            "--metric-resolution=10s",
            "--kubelet-request-timeout=5s",
        ),
        lambda: succeeds(*kubectl(), "get", "--raw=/apis/metrics.k8s.io/v1beta1", "--request-timeout=5s"),
    )
