"""How Argo CD is asked, and what is made of its answers."""

import shutil
import ssl
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gitops.argocd import ArgoCD
from gitops.release import Release
from gitops.service import ServiceError

COMMIT = "5" * 40


def test_it_is_asked_to_look_again_and_by_the_token(
    argo: Any, application: Callable[..., dict[str, Any]], release_of: Callable[..., Release]
) -> None:
    argo.answers = [application(COMMIT, release_of())]
    found = ArgoCD(argo.address, "a-token").application("staging", "fraud")
    assert argo.asked == [
        ("/api/v1/applications/staging-fraud?refresh=normal&project=forest-staging", "Bearer a-token")
    ]
    assert (found.sync, found.health, found.revision) == ("Synced", "Healthy", COMMIT)
    assert found.images == {release_of().reference}
    assert [sync.revision for sync in found.history] == [COMMIT]
    assert found.automated
    assert not found.syncing
    assert found.asked == argo.date


def test_an_application_that_argo_cd_has_just_made_is_read(argo: Any) -> None:
    argo.answers = [{"metadata": {"name": "prod-fraud"}, "spec": {}, "status": {}, "operation": {"sync": {}}}]
    found = ArgoCD(argo.address, "a-token").application("prod", "fraud")
    assert (found.sync, found.health, found.revision) == ("Unknown", "Unknown", "")
    assert (found.health_since, found.operation, found.automated) == (None, None, False)
    assert found.syncing


@pytest.mark.parametrize(
    ("address", "full"),
    [
        ("argocd.example", "https://argocd.example"),
        ("argocd.example:8443", "https://argocd.example:8443"),
        ("https://argocd.example/cd/", "https://argocd.example/cd"),
        ("http://127.0.0.1:8080", "http://127.0.0.1:8080"),
    ],
)
def test_an_address_is_https_unless_it_says_otherwise(address: str, full: str) -> None:
    assert ArgoCD(address, "a-token").address == full


@pytest.mark.parametrize(
    "address",
    ["", "ftp://argocd.example", "argocd.example:port", "ada:secret@argocd.example", "argocd.example?x=1",
     "argocd\n.example", "file:///etc/passwd", "argocd.example:99999"],
)  # fmt: skip
def test_what_is_no_address_is_refused(address: str) -> None:
    with pytest.raises(ServiceError, match="is not an address of Argo CD: give HOST"):
        ArgoCD(address, "a-token")


def test_a_token_is_needed_and_never_told() -> None:
    with pytest.raises(ServiceError, match="set ARGOCD_AUTH_TOKEN to one of an account"):
        ArgoCD("argocd.example", "")
    with pytest.raises(ServiceError, match="is not a token") as caught:
        ArgoCD("argocd.example", "secret\nX-Other: header")
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("answer", "said", "passing"),
    [
        ((401, {"error": "x", "code": 16, "message": "invalid session: token expired"}),
         "does not accept the token in ARGOCD_AUTH_TOKEN: invalid session: token expired", False),
        ((403, {"error": "permission denied", "code": 7, "message": "permission denied"}),
         "it needs the right `applications, get, forest-staging/[*]`", False),
        ((404, {"error": "x", "code": 5, "message": 'applications.argoproj.io "staging-fraud" not found'}),
         "has no Application staging-fraud in the project forest-staging", True),
        ((502, "<html>Bad Gateway</html>"), "answered 502 for staging-fraud", True),
        ((400, {"message": "what?"}), "answered 400 for staging-fraud: what[?]", False),
        ((200, "<html>Log in</html>"), "not as Argo CD does .*: is it Argo CD's address[?]", False),
        ((200, {"items": []}), "not as Argo CD does", False),
        ((200, []), "not as Argo CD does", False),
        ((200, {"metadata": {"name": "staging-other"}, "spec": {}}), "it tells of staging-other", False),
        ((200, {"metadata": {"name": "staging-fraud"}, "spec": {}, "status": {"health": {
            "lastTransitionTime": "yesterday"}}}), "not as Argo CD does", False),
    ],
)  # fmt: skip
def test_an_answer_that_is_none_says_why(argo: Any, answer: Any, said: str, passing: bool) -> None:
    argo.answers = [answer]
    with pytest.raises(ServiceError, match=said) as caught:
        ArgoCD(argo.address, "a-token").application("staging", "fraud")
    assert caught.value.passing is passing
    assert "a-token" not in str(caught.value)


def test_the_token_goes_to_no_other_address(argo: Any) -> None:
    argo.answers = [(307, "")]
    argo.location = "https://argocd.example/login"
    with pytest.raises(ServiceError, match=r"leads on to https://argocd.example/login: give that address"):
        ArgoCD(argo.address, "a-token").application("staging", "fraud")
    assert len(argo.asked) == 1


def test_nobody_at_the_address_is_said_and_may_pass() -> None:
    with pytest.raises(ServiceError, match=r"at http://127.0.0.1:9 cannot be asked") as caught:
        ArgoCD("http://127.0.0.1:9", "a-token").application("staging", "fraud")
    assert caught.value.passing


def test_a_certificate_counts_if_its_authority_is_named(
    argo: Any,
    application: Callable[..., dict[str, Any]],
    release_of: Callable[..., Release],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if not shutil.which("openssl"):
        pytest.skip("openssl is not installed: nothing to make a certificate with")
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    # As Argo CD makes itself one at its first start.
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
         "-keyout", key, "-out", certificate, "-days", "2", "-subj", "/O=Argo CD",
         "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1",
         "-addext", "basicConstraints=critical,CA:FALSE",
         "-addext", "keyUsage=critical,digitalSignature,keyEncipherment",
         "-addext", "extendedKeyUsage=serverAuth"],
        check=True, capture_output=True,
    )  # fmt: skip
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    argo.socket = context.wrap_socket(argo.socket, server_side=True)
    argo.answers = [application(COMMIT, release_of())]
    address = f"127.0.0.1:{argo.server_port}"
    with pytest.raises(ServiceError, match="SSL_CERT_FILE") as caught:
        ArgoCD(address, "a-token").application("staging", "fraud")
    assert not caught.value.passing
    assert not argo.asked
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    assert ArgoCD(address, "a-token").application("staging", "fraud").health == "Healthy"
