"""The cluster's certificates, of one authority that lives as long as the node."""

from tests.cluster.node.command import run
from tests.cluster.node.place import API_SERVICE, KEYS, NAME, NODE

_API_NAMES = (
    "DNS:localhost,DNS:kubernetes,DNS:kubernetes.default,DNS:kubernetes.default.svc,"
    f"DNS:kubernetes.default.svc.cluster.local,IP:127.0.0.1,IP:{NODE},IP:{API_SERVICE}"
)
# Name, subject, alternative names.
_ISSUED = (
    ("apiserver", "/CN=kube-apiserver", _API_NAMES),
    ("apiserver-kubelet", "/O=system:masters/CN=apiserver-kubelet", ""),
    ("front-proxy", "/CN=front-proxy", ""),
    ("node", f"/CN={NAME}", f"DNS:{NAME},IP:{NODE}"),
    ("admin", "/O=system:masters/CN=admin", ""),
    ("controller-manager", "/CN=system:kube-controller-manager", ""),
    ("scheduler", "/CN=system:kube-scheduler", ""),
    ("proxy", "/CN=system:kube-proxy", ""),
    ("kubelet", f"/O=system:nodes/CN=system:node:{NAME}", ""),
)


def make() -> None:
    """Make the authority, the keys and the certificates."""
    KEYS.mkdir(mode=0o700, parents=True)
    run(
        "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
        "-days", "365", "-subj", f"/CN={NAME}", "-keyout", KEYS / "ca.key", "-out", KEYS / "ca.crt",
    )  # fmt: skip
    for name, subject, alternatives in _ISSUED:
        extensions = "extendedKeyUsage=serverAuth,clientAuth\n"
        if alternatives:
            extensions += f"subjectAltName={alternatives}\n"
        request = run(
            "openssl", "req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
            "-subj", subject, "-keyout", KEYS / f"{name}.key",
        )  # fmt: skip
        (KEYS / "extensions").write_text(extensions)
        run(
            "openssl", "x509", "-req", "-days", "365", "-CA", KEYS / "ca.crt", "-CAkey", KEYS / "ca.key",
            "-CAcreateserial", "-extfile", KEYS / "extensions", "-out", KEYS / f"{name}.crt",
            standard_input=request,
        )  # fmt: skip
    run("openssl", "genrsa", "-out", KEYS / "service-accounts.key", "2048")
    run(
        "openssl",
        "rsa",
        "-in",
        KEYS / "service-accounts.key",
        "-pubout",
        "-out",
        KEYS / "service-accounts.pub",
    )
