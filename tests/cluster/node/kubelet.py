"""The kubelet: the node itself."""

import json

from tests.cluster.node import kubeconfig
from tests.cluster.node.binaries import binary
from tests.cluster.node.command import succeeds
from tests.cluster.node.part import Part
from tests.cluster.node.place import DNS, KEYS, KUBECONFIG, NAME, NODE, ROOT
from tests.cluster.node.runtime import SOCKET

_CONFIG = {
    "apiVersion": "kubelet.config.k8s.io/v1beta1",
    "kind": "KubeletConfiguration",
    "cgroupDriver": "cgroupfs",
    "cgroupRoot": f"/{NAME}",
    "failSwapOn": False,
    "failCgroupV1": False,
    "oomScoreAdj": 0,
    "enforceNodeAllocatable": [],
    "resolvConf": "",
    "clusterDNS": [DNS],
    "clusterDomain": "cluster.local",
    "containerRuntimeEndpoint": f"unix://{SOCKET}",
    # The machine's disk and memory are its owner's matter.
    "evictionHard": {"memory.available": "1%"},
    "imageGCHighThresholdPercent": 100,
    "containerLogMaxSize": "200Mi",
    "authentication": {"anonymous": {"enabled": False}, "x509": {"clientCAFile": str(KEYS / "ca.crt")}},
    "authorization": {"mode": "Webhook"},
    "tlsCertFile": str(KEYS / "node.crt"),
    "tlsPrivateKeyFile": str(KEYS / "node.key"),
    # A pod that was killed comes back at once, a lost node is noticed soon.
    "nodeStatusUpdateFrequency": "4s",
    "serializeImagePulls": False,
}


def part() -> Part:
    """Return the kubelet; it is ready when the node is."""
    config = ROOT / "kubelet.kubeconfig"
    kubeconfig.write("kubelet", config)
    (ROOT / "kubelet.json").write_text(json.dumps(_CONFIG, indent=1))
    return Part(
        "kubelet",
        (
            binary("kubelet"),
            f"--config={ROOT / 'kubelet.json'}",
            f"--kubeconfig={config}",
            f"--root-dir={ROOT / 'kubelet'}",
            f"--cert-dir={ROOT / 'kubelet' / 'pki'}",
            f"--hostname-override={NAME}",
            f"--node-ip={NODE}",
            # For cAdvisor, which looks for it elsewhere and knows pods without their containers then.
            f"--containerd={SOCKET}",
            "--v=1",
        ),
        lambda: succeeds(*kubectl(), "wait", "--for=condition=Ready", f"node/{NAME}", "--timeout=0"),
    )


def kubectl() -> tuple[str, str]:
    """Return ``kubectl`` as the cluster's administrator."""
    return str(binary("kubectl")), f"--kubeconfig={KUBECONFIG}"
