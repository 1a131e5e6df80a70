"""kube-proxy: a Service's address becomes a pod's."""

import json

from tests.cluster.node import kubeconfig
from tests.cluster.node.binaries import binary
from tests.cluster.node.part import Part
from tests.cluster.node.place import NAME, NODE, PODS, ROOT
from tests.cluster.node.probe import answers


def part() -> Part:
    """Return kube-proxy."""
    config = ROOT / "proxy.kubeconfig"
    kubeconfig.write("proxy", config)
    (ROOT / "proxy.json").write_text(
        json.dumps(
            {
                "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
                "kind": "KubeProxyConfiguration",
                "mode": "nftables",
                "hostnameOverride": NAME,
                "clusterCIDR": PODS,
                "clientConnection": {"kubeconfig": str(config)},
                "healthzBindAddress": f"{NODE}:10256",
                "conntrack": {"maxPerCore": 0},
            }
        )
    )
    return Part(
        "kube-proxy",
        (binary("kube-proxy"), f"--config={ROOT / 'proxy.json'}"),
        lambda: answers(f"http://{NODE}:10256/healthz"),
    )
