"""The controller manager and the scheduler."""

from tests.cluster.node import kubeconfig
from tests.cluster.node.binaries import binary
from tests.cluster.node.part import Part
from tests.cluster.node.place import KEYS, NODE
from tests.cluster.node.probe import answers


def manager() -> Part:
    """Return the controller manager. It asks for the autoscalers' figures every two seconds."""
    return Part(
        "kube-controller-manager",
        (
            binary("kube-controller-manager"),
            *kubeconfig.flags("controller-manager", "controller-manager"),
            f"--root-ca-file={KEYS / 'ca.crt'}",
            f"--service-account-private-key-file={KEYS / 'service-accounts.key'}",
            "--use-service-account-credentials=true",
            "--leader-elect=false",
            "--horizontal-pod-autoscaler-sync-period=2s",
        ),
        lambda: answers(_local(10257)),
    )


def scheduler() -> Part:
    """Return the scheduler."""
    return Part(
        "kube-scheduler",
        (
            binary("kube-scheduler"),
            *kubeconfig.flags("scheduler", "scheduler"),
            "--leader-elect=false",
        ),
        lambda: answers(_local(10259)),
    )


def _local(port: int) -> str:
    return f"https://{NODE}:{port}/healthz"
