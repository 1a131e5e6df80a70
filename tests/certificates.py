"""Real certificates, made by openssl."""

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

_KEYS = {
    "ECDSA": ("ec", "-pkeyopt", "ec_paramgen_curve:P-256"),
    "P-384": ("ec", "-pkeyopt", "ec_paramgen_curve:P-384"),
    "P-521": ("ec", "-pkeyopt", "ec_paramgen_curve:P-521"),
    "RSA": ("rsa:2048",),
    "Ed25519": ("ed25519",),
}


class Pair(NamedTuple):
    """A certificate and its key."""

    certificate: Path
    key: Path


class Authority:
    """Who signs certificates."""

    def __init__(self, folder: Path, name: str):
        self._folder = folder
        self.certificate = folder / f"{name}.crt"
        self._key = folder / f"{name}.key"
        _openssl(
            *("req", "-x509", "-newkey", *_KEYS["ECDSA"], "-nodes", "-days", "2", "-subj", f"/CN={name}"),
            *("-keyout", str(self._key), "-out", str(self.certificate)),
        )

    def sign(
        self,
        name: str,
        alternative: str = "DNS:localhost",
        key: str = "ECDSA",
        *,
        common: str = "",
        expired: bool = False,
    ) -> Pair:
        """Return a new pair, in files of this name."""
        pair = Pair(self._folder / f"{name}.crt", self._folder / f"{name}.key")
        request, extensions = self._folder / f"{name}.csr", self._folder / f"{name}.ext"
        extensions.write_text(f"subjectAltName={alternative}\n" if alternative else "")
        _openssl(
            *("req", "-new", "-newkey", *_KEYS[key], "-nodes", "-subj", f"/CN={common or name}"),
            *("-keyout", str(pair.key), "-out", str(request)),
        )
        _openssl(
            *("x509", "-req", "-in", str(request), "-CA", str(self.certificate), "-CAkey", str(self._key)),
            *("-CAcreateserial", "-extfile", str(extensions), "-out", str(pair.certificate)),
            *("-days", "-1" if expired else "2"),
        )
        return pair


def _openssl(*arguments: str) -> None:
    done = subprocess.run(["openssl", *arguments], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr


@pytest.fixture
def authority(tmp_path: Path) -> Callable[[str], Authority]:
    """Return a function that makes an authority of a name."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed: nothing makes certificates")
    folder = tmp_path / "certificates"
    folder.mkdir()
    return lambda name: Authority(folder, name)
