"""The certificates of TLS, read from files and proved before they are used."""

import logging
import ssl
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

_log = logging.getLogger(__name__)

# The keys by which gRPC's two ends agree on a signature, as a certificate names their kind in DER (RFC 3279
# and RFC 5480, AlgorithmIdentifier). With P-521 and Ed25519 no connection comes about.
_USABLE = {
    "RSA": bytes.fromhex("300d06092a864886f70d0101010500"),
    "ECDSA with P-256": bytes.fromhex("301306072a8648ce3d020106082a8648ce3d030107"),
    "ECDSA with P-384": bytes.fromhex("301006072a8648ce3d020106052b81040022"),
}


@dataclass(frozen=True, slots=True)
class Certificates:
    """What a server shows to its clients, and what it asks of theirs. All are PEM.

    Attributes
    ----------
    chain
        The server's certificate, and those between it and the root.
    key
        The certificate's key.
    client_ca
        Who must have signed a client's certificate; None if clients need none.
    end
        When the server's certificate ends, in seconds since the epoch.
    """

    chain: bytes
    key: bytes = field(repr=False)
    client_ca: bytes | None
    end: int


def read(certificate: Path, key: Path, client_ca: Path | None) -> Certificates:
    """Read the certificates, and prove them: the pair shakes hands with itself, in memory.

    Raises
    ------
    ValueError
        If they cannot be read, are no pair, are out of date, or are of a kind that gRPC cannot use.
    """
    chain, private = _bytes("tls_certificate", certificate), _bytes("tls_key", key)
    authority = _bytes("tls_client_ca", client_ca) if client_ca else None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(certificate, key, password=lambda: _encrypted(key))
    except ssl.SSLError as error:
        raise ValueError(
            f"tls_certificate {certificate} and tls_key {key} are no pair of PEM files: "
            f"{error.reason or error}"
        ) from None
    if client_ca:
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_verify_locations(cafile=client_ca)
        except ssl.SSLError as error:
            raise ValueError(
                f"tls_client_ca {client_ca} holds no PEM certificate: {error.reason or error}"
            ) from None
    names, end = _prove(context, certificate)
    _log.info("TLS with the certificate of %s, good until %s", names, end)
    return Certificates(chain, private, authority, int(ssl.cert_time_to_seconds(end)))


def _prove(context: ssl.SSLContext, certificate: Path) -> tuple[str, str]:
    """Shake hands with who trusts this very certificate; return the names in it, and when it ends."""
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname = False
    client.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    client.load_verify_locations(cafile=certificate)
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    near = client.wrap_bio(back, there)
    far = context.wrap_bio(there, back, server_side=True)
    try:
        for end in (near, far, near, far):
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
    except ssl.SSLError as error:
        reason = getattr(error, "verify_message", "") or error.reason or error
        raise ValueError(f"tls_certificate {certificate} cannot be used: {reason}") from None
    encoded = near.getpeercert(binary_form=True) or b""
    if not any(kind in encoded for kind in _USABLE.values()):
        raise ValueError(
            f"tls_certificate {certificate} has a key of a kind that gRPC does not take: make one of "
            f"{', '.join(_USABLE)}"
        )
    decoded: Any = near.getpeercert() or {}
    names = [value for _, value in decoded.get("subjectAltName", ())]
    return ", ".join(names) or "no name", str(decoded.get("notAfter"))


def _bytes(name: str, file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise ValueError(f"{name}: cannot read {file}: {error.strerror}") from error


def _encrypted(key: Path) -> NoReturn:
    raise ValueError(
        f"tls_key {key} is encrypted: give one that is not, in a file that only the server reads"
    )
