"""A kubeconfig for each who asks the API server."""

import base64
import json
from pathlib import Path

from tests.cluster.node.place import API, KEYS, NAME, ROOT


def write(certificate: str, file: Path, namespace: str = "default") -> None:
    """Write a kubeconfig that stands alone, for the holder of a certificate."""

    def data(name: str) -> str:
        return base64.b64encode((KEYS / name).read_bytes()).decode()

    user = {
        "client-certificate-data": data(f"{certificate}.crt"),
        "client-key-data": data(f"{certificate}.key"),
    }
    file.touch(mode=0o600)
    file.write_text(
        json.dumps(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "clusters": [
                    {"name": NAME, "cluster": {"server": API, "certificate-authority-data": data("ca.crt")}}
                ],
                "users": [{"name": certificate, "user": user}],
                "contexts": [
                    {
                        "name": NAME,
                        "context": {"cluster": NAME, "user": certificate, "namespace": namespace},
                    }
                ],
                "current-context": NAME,
            },
            indent=1,
        )
    )


def flags(certificate: str, part: str) -> tuple[str, ...]:
    """Write the kubeconfig of a part that also serves, and return the flags that name it and its key."""
    file = ROOT / f"{part}.kubeconfig"
    write(certificate, file)
    return (
        f"--kubeconfig={file}",
        f"--authentication-kubeconfig={file}",
        f"--authorization-kubeconfig={file}",
        f"--tls-cert-file={KEYS / 'node.crt'}",
        f"--tls-private-key-file={KEYS / 'node.key'}",
    )
