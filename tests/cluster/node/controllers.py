"""The controller manager and the scheduler."""

from tests.cluster.node import kubeconfig
from tests.cluster.node.binaries import binary
from tests.cluster.node.part import Part
from tests.cluster.node.place import KEYS, NODE, ROOT
from tests.cluster.node.probe import answers


def manager() -> Part:
    """Return the controller manager. It asks for the autoscalers' figures every two seconds."""
    config = ROOT / "controller-manager.kubeconfig"
    kubeconfig.write("controller-manager", config)
    return Part(
        "kube-controller-manager",
        (
            binary("kube-controller-manager"),
            f"--kubeconfig={config}",
            f"--authentication-kubeconfig={config}",
            f"--authorization-kubeconfig={config}",
            f"--root-ca-file={KEYS / 'ca.crt'}",
            f"--service-account-private-key-file={KEYS / 'service-accounts.key'}",
            "--use-service-account-credentials=true",
            "--leader-elect=false",
            "--horizontal-pod-autoscaler-sync-period=2s",
            f"--tls-cert-file={KEYS / 'node.crt'}",
            f"--tls-private-key-file={KEYS / 'node.key'}",
        ),
        lambda: answers(_local(10257)),
    )


def scheduler() -> Part:
    """Return the scheduler."""
    config = ROOT / "scheduler.kubeconfig"
    kubeconfig.write("scheduler", config)
    return Part(
        "kube-scheduler",
        (
            binary("kube-scheduler"),
            f"--kubeconfig={config}",
            f"--authentication-kubeconfig={config}",
            f"--authorization-kubeconfig={config}",
            "--leader-elect=false",
            f"--tls-cert-file={KEYS / 'node.crt'}",
            f"--tls-private-key-file={KEYS / 'node.key'}",
        ),
        lambda: answers(_local(10259)),
    )


def _local(port: int) -> str:
    return f"https://{NODE}:{port}/healthz"
