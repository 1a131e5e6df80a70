"""CoreDNS: names of Services, and no others."""

from tests.cluster.node import kubeconfig
from tests.cluster.node.binaries import binary
from tests.cluster.node.part import Part
from tests.cluster.node.place import NODE, ROOT
from tests.cluster.node.probe import answers


def part() -> Part:
    """Return CoreDNS. A Service without pods leads to it: `manifests/dns.yaml`."""
    config = ROOT / "dns.kubeconfig"
    kubeconfig.write("admin", config)
    (ROOT / "Corefile").write_text(
        f".:53 {{\n    bind {NODE}\n    ready {NODE}:8181\n    errors\n"
        f"    kubernetes cluster.local {{\n        kubeconfig {config}\n        ttl 1\n    }}\n"
        # Nobody else is asked.
        "    template ANY ANY . {\n        rcode NXDOMAIN\n    }\n}\n"
    )
    return Part(
        "coredns",
        (binary("coredns"), "-conf", ROOT / "Corefile"),
        lambda: answers(f"http://{NODE}:8181/ready"),
    )
