"""Certificates are proved before they are used."""

import logging
import ssl
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from server import tls


@pytest.mark.parametrize("key", ["ECDSA", "P-384", "RSA"])
def test_a_pair_is_read_and_its_names_and_end_are_told(
    authority: Callable[[str], Any], caplog: pytest.LogCaptureFixture, key: str
) -> None:
    caplog.set_level(logging.INFO)
    root = authority("root")
    pair = root.sign("server", "DNS:a.example,DNS:b.example", key)
    found = tls.read(*pair, root.certificate)
    assert (found.chain, found.key) == (pair.certificate.read_bytes(), pair.key.read_bytes())
    assert found.client_ca == root.certificate.read_bytes()
    assert "a.example, b.example, good until " in caplog.text
    said = caplog.text.partition("good until ")[2].splitlines()[0]
    assert found.end == ssl.cert_time_to_seconds(said)
    assert "PRIVATE" not in repr(found)


def _swap_keys(root: Any) -> tuple[Path, Path, Path | None]:
    return root.sign("server").certificate, root.sign("other").key, None


def _swap_files(root: Any) -> tuple[Path, Path, Path | None]:
    pair = root.sign("server")
    return pair.key, pair.certificate, None


def _empty(root: Any) -> tuple[Path, Path, Path | None]:
    pair = root.sign("server")
    pair.certificate.write_bytes(b"")
    return *pair, None


def _without_a_key(root: Any) -> tuple[Path, Path, Path | None]:
    pair = root.sign("server")
    pair.key.unlink()
    return *pair, None


def _encrypt(root: Any) -> tuple[Path, Path, Path | None]:
    pair = root.sign("server")
    encrypted = pair.key.with_suffix(".encrypted")
    subprocess.run(
        ["openssl", "pkcs8", "-topk8", "-in", str(pair.key), "-out", str(encrypted), "-passout", "pass:a"],
        check=True,
    )
    return pair.certificate, encrypted, None


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (_swap_keys, "are no pair of PEM files: KEY_VALUES_MISMATCH"),
        (_swap_files, "are no pair of PEM files: "),
        (_empty, "are no pair of PEM files: "),
        (_without_a_key, "tls_key: cannot read "),
        (_encrypt, "is encrypted: give one that is not"),
        (lambda root: (*root.sign("server", expired=True), None), "cannot be used: certificate has expired"),
        (lambda root: (*root.sign("server", key="Ed25519"), None), "has a key of a kind that gRPC does not"),
        (lambda root: (*root.sign("server", key="P-521"), None), "has a key of a kind that gRPC does not"),
        (lambda root: (*root.sign("server"), root.sign("other").key), "holds no PEM certificate"),
    ],
)
def test_what_cannot_be_used_is_refused_with_the_reason_and_without_the_key(
    authority: Callable[[str], Any], damage: Callable[[Any], tuple[Path, Path, Path | None]], reason: str
) -> None:
    files = damage(authority("root"))
    with pytest.raises(ValueError, match="tls_") as caught:
        tls.read(*files)
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)
