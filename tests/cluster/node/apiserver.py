"""The API server."""

from tests.cluster.node.binaries import binary
from tests.cluster.node.part import Part
from tests.cluster.node.place import API, ETCD, KEYS, NODE, SERVICES
from tests.cluster.node.probe import answers


def part() -> Part:
    """Return the API server."""
    return Part(
        "kube-apiserver",
        (
            binary("kube-apiserver"),
            f"--advertise-address={NODE}",
            "--secure-port=6443",
            f"--etcd-servers={ETCD}",
            f"--service-cluster-ip-range={SERVICES}",
            "--allow-privileged=true",
            "--authorization-mode=Node,RBAC",
            "--enable-admission-plugins=NodeRestriction",
            f"--client-ca-file={KEYS / 'ca.crt'}",
            f"--tls-cert-file={KEYS / 'apiserver.crt'}",
            f"--tls-private-key-file={KEYS / 'apiserver.key'}",
            f"--kubelet-client-certificate={KEYS / 'apiserver-kubelet.crt'}",
            f"--kubelet-client-key={KEYS / 'apiserver-kubelet.key'}",
            f"--kubelet-certificate-authority={KEYS / 'ca.crt'}",
            "--kubelet-preferred-address-types=InternalIP",
            "--service-account-issuer=https://kubernetes.default.svc.cluster.local",
            f"--service-account-key-file={KEYS / 'service-accounts.pub'}",
            f"--service-account-signing-key-file={KEYS / 'service-accounts.key'}",
            # For metrics.k8s.io, which another server answers.
            "--enable-aggregator-routing=true",
            f"--requestheader-client-ca-file={KEYS / 'ca.crt'}",
            "--requestheader-allowed-names=front-proxy",
            "--requestheader-extra-headers-prefix=X-Remote-Extra-",
            "--requestheader-group-headers=X-Remote-Group",
            "--requestheader-username-headers=X-Remote-User",
            f"--proxy-client-cert-file={KEYS / 'front-proxy.crt'}",
            f"--proxy-client-key-file={KEYS / 'front-proxy.key'}",
        ),
        lambda: answers(f"{API}/readyz"),
    )
