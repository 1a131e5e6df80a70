"""etcd: what the API server knows. It need not outlive the machine, so nothing waits for the disk."""

from tests.cluster.node.binaries import binary
from tests.cluster.node.part import Part
from tests.cluster.node.place import ETCD, NODE, ROOT
from tests.cluster.node.probe import answers

_HEALTH = f"http://{NODE}:2381"


def part() -> Part:
    """Return etcd."""
    return Part(
        "etcd",
        (
            binary("etcd"),
            "--name=forest",
            f"--data-dir={ROOT / 'etcd'}",
            f"--listen-client-urls={ETCD}",
            f"--advertise-client-urls={ETCD}",
            "--listen-peer-urls=http://127.0.0.1:2380",
            f"--listen-metrics-urls={_HEALTH}",
            "--unsafe-no-fsync=true",
            "--log-level=warn",
        ),
        lambda: answers(f"{_HEALTH}/health"),
    )
