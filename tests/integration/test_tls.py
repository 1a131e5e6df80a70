"""TLS of the real server: certificates that change, clients that must show one, and callers of a policy."""

import hashlib
import os
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from forest.v1.model_service_pb2 import GetModelRequest, ListModelsRequest
from forest.v1.model_service_pb2_grpc import ModelServiceStub
from forest.v1.prediction_service_pb2 import PredictRequest, Vector
from forest.v1.prediction_service_pb2_grpc import PredictionServiceStub
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

_REQUEST = PredictRequest(model="fraud", vector=Vector(values=[0.0] * 30))


@contextmanager
def _secure(target: str, ca: Path, pair: Any = None) -> Iterator[grpc.Channel]:
    own = (pair.key.read_bytes(), pair.certificate.read_bytes()) if pair else (None, None)
    credentials = grpc.ssl_channel_credentials(ca.read_bytes(), *own)
    options = (("grpc.use_local_subchannel_pool", 1), ("grpc.enable_retries", 0))
    with grpc.secure_channel(target, credentials, options) as channel:
        yield channel


def _error(call: Callable[[], Any]) -> Any:
    with pytest.raises(grpc.RpcError) as caught:
        call()
    return caught.value


def _shown(target: str) -> bytes:
    """Return the certificate that a server shows to who connects now."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    host, _, port = target.rpartition(":")
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        return context.wrap_socket(connection).getpeercert(binary_form=True) or b""


def _der(certificate: Path) -> bytes:
    return ssl.PEM_cert_to_DER_cert(certificate.read_text())


def _place(folder: Path, pair: Any, version: str) -> None:
    """Let a folder hold a pair as a volume of a Secret does: a link is swapped."""
    (folder / version).mkdir(parents=True)
    (folder / version / "tls.crt").write_bytes(pair.certificate.read_bytes())
    (folder / version / "tls.key").write_bytes(pair.key.read_bytes())
    (folder / "..new").symlink_to(version)
    (folder / "..new").rename(folder / "..data")
    for name in ("tls.crt", "tls.key"):
        if not (folder / name).is_symlink():
            (folder / name).symlink_to(f"..data/{name}")


def _flags(folder: Path) -> tuple[str, ...]:
    return "--tls-certificate", str(folder / "tls.crt"), "--tls-key", str(folder / "tls.key")


def test_a_new_pair_is_shown_to_who_comes_and_nobody_is_dropped(
    start_server: Callable[..., Any],
    fraud_bundle: Path,
    authority: Callable[[str], Any],
    health_of: Callable[..., Any],
    tmp_path: Path,
) -> None:
    root, volume = authority("root"), tmp_path / "volume"
    first, second = root.sign("first"), root.sign("second", key="RSA")
    _place(volume, first, "1")
    process = start_server(
        fraud_bundle.parents[1], *_flags(volume), "--max-connection-age", "600", "--drain-timeout", "700"
    )
    # Probes speak plaintext only.
    assert health_of(process.health_target)["readiness"] == "SERVING"
    assert _shown(process.target) == _der(first.certificate)
    with _secure(process.target, root.certificate) as channel:
        predict = PredictionServiceStub(channel).Predict
        predict(_REQUEST, timeout=10)

        # The key of another: refused, and the old pair stands.
        _place(volume, second._replace(key=first.key), "2")
        process.wait_for(r"refused: the new certificate: .* are no pair .*\. The old one stands", 20)
        assert _shown(process.target) == _der(first.certificate)

        _place(volume, second, "3")
        process.wait_for("took the new certificate", 20)
        assert _shown(process.target) == _der(second.certificate)
        # Over the connection that was there before, and over a new one.
        predict(_REQUEST, timeout=10)
        with _secure(process.target, root.certificate) as other:
            PredictionServiceStub(other).Predict(_REQUEST, timeout=10)
    assert process.stop() == 0
    assert "Traceback" not in "".join(process.log)


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
def test_who_speaks_plaintext_old_tls_or_trusts_nobody_here_is_not_served(
    start_server: Callable[..., Any],
    fraud_bundle: Path,
    authority: Callable[[str], Any],
    connect: Callable[..., Any],
) -> None:
    root, stranger = authority("root"), authority("stranger")
    pair = root.sign("server")
    process = start_server(
        fraud_bundle.parents[1], "--tls-certificate", str(pair.certificate), "--tls-key", str(pair.key)
    )
    with connect(process.target) as channel:
        error = _error(lambda: PredictionServiceStub(channel).Predict(_REQUEST, timeout=10))
        assert error.code() is grpc.StatusCode.UNAVAILABLE
    with _secure(process.target, stranger.certificate) as channel:
        error = _error(lambda: PredictionServiceStub(channel).Predict(_REQUEST, timeout=10))
        assert error.code() is grpc.StatusCode.UNAVAILABLE

    host, _, port = process.target.rpartition(":")
    agreed = {}
    for version in ("TLSv1_1", "TLSv1_2", "TLSv1_3"):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        # Whatever this machine's own policy says of old versions.
        context.set_ciphers("ALL:@SECLEVEL=0")
        context.set_alpn_protocols(["h2"])
        context.minimum_version = context.maximum_version = ssl.TLSVersion[version]
        with socket.create_connection((host, int(port)), timeout=10) as connection:
            try:
                agreed[version] = (context.wrap_socket(connection).cipher() or ("",))[0]
            except (ssl.SSLError, ConnectionError):
                agreed[version] = ""
    assert agreed["TLSv1_1"] == ""
    assert agreed["TLSv1_2"].startswith("ECDHE-ECDSA-")
    assert agreed["TLSv1_3"].startswith("TLS_")
    with _secure(process.target, root.certificate) as channel:
        PredictionServiceStub(channel).Predict(_REQUEST, timeout=10)
    assert process.stop() == 0


def test_ciphers_of_tls_1_2_are_those_that_the_documentation_names(
    start_server: Callable[..., Any], fraud_bundle: Path, authority: Callable[[str], Any]
) -> None:
    root = authority("root")
    documentation = (Path(__file__).parents[2] / "docs" / "server.md").read_text()
    for key, kind in (("P-384", "ECDSA"), ("RSA", "RSA")):
        pair = root.sign("server", key=key)
        process = start_server(
            fraud_bundle.parents[1], "--tls-certificate", str(pair.certificate), "--tls-key", str(pair.key)
        )
        host, _, port = process.target.rpartition(":")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.set_ciphers("ALL:@SECLEVEL=0")
        taken = set()
        for cipher in (each["name"] for each in context.get_ciphers() if each["protocol"] != "TLSv1.3"):
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            context.set_alpn_protocols(["h2"])
            context.maximum_version = ssl.TLSVersion.TLSv1_2
            context.set_ciphers(cipher + ":@SECLEVEL=0")
            with socket.create_connection((host, int(port)), timeout=10) as connection:
                try:
                    context.wrap_socket(connection)
                    taken.add(cipher)
                except (ssl.SSLError, ConnectionError):
                    continue
        assert taken == {f"ECDHE-{kind}-{rest}" for rest in ("AES128-GCM-SHA256", "AES256-GCM-SHA384")}
        assert all(f"`{cipher.partition(f'-{kind}-')[2]}`" in documentation for cipher in taken)
        assert process.stop() == 0


def test_with_a_client_ca_clients_must_show_a_certificate_of_it(
    start_server: Callable[..., Any], fraud_bundle: Path, authority: Callable[[str], Any], tmp_path: Path
) -> None:
    root, clients, strangers = authority("root"), authority("clients"), authority("strangers")
    pair, good = root.sign("server"), clients.sign("good", "DNS:good.example")
    policy = tmp_path / "policy.toml"
    policy.write_text(
        '[callers.good]\nmodels = ["fraud"]\ncertificates = ["good.example", "by-common-name"]\n'
        '[callers.narrow]\nmodels = ["churn"]\ncertificates = ["spiffe://bank/narrow"]\n'
    )
    process = start_server(
        *(fraud_bundle.parents[1], "--tls-certificate", str(pair.certificate), "--tls-key", str(pair.key)),
        *("--tls-client-ca", str(clients.certificate), "--access-policy", str(policy)),
    )
    for bad in (None, strangers.sign("bad", "DNS:good.example"), clients.sign("old", expired=True)):
        with _secure(process.target, root.certificate, bad) as channel:
            error = _error(
                lambda channel=channel: PredictionServiceStub(channel).Predict(_REQUEST, timeout=10)
            )
            assert error.code() is grpc.StatusCode.UNAVAILABLE
    # A common name counts where there is no other.
    for known in (good, clients.sign("common", "", common="by-common-name")):
        with _secure(process.target, root.certificate, known) as channel:
            PredictionServiceStub(channel).Predict(_REQUEST, timeout=10)
            assert len(ModelServiceStub(channel).ListModels(ListModelsRequest(), timeout=10).models) == 1
    with _secure(process.target, root.certificate, clients.sign("u", "URI:spiffe://bank/narrow")) as channel:
        error = _error(lambda: PredictionServiceStub(channel).Predict(_REQUEST, timeout=10))
        assert (error.code(), error.details()) == (
            grpc.StatusCode.PERMISSION_DENIED,
            "narrow may not call model 'fraud', but: churn",
        )
        assert not ModelServiceStub(channel).ListModels(ListModelsRequest(), timeout=10).models
    unknown = clients.sign("unknown", "DNS:unknown.example", common="by-common-name")
    with _secure(process.target, root.certificate, unknown) as channel:
        error = _error(lambda: PredictionServiceStub(channel).Predict(_REQUEST, timeout=10))
        assert (error.code(), error.details()) == (
            grpc.StatusCode.PERMISSION_DENIED,
            "no caller is known by the certificate's names: unknown.example",
        )
    assert process.stop() == 0


def _hash(token: str) -> str:
    return "sha256:" + hashlib.sha256(token.encode()).hexdigest()


def test_tokens_are_asked_for_on_every_method_and_appear_in_no_log(
    start_server: Callable[..., Any], fraud_bundle: Path, authority: Callable[[str], Any], tmp_path: Path
) -> None:
    root, volume = authority("root"), tmp_path / "volume"
    pair = root.sign("server")
    _place(volume, pair, "1")
    good, narrow, wrong = (os.urandom(16).hex() for _ in range(3))
    policy = tmp_path / "policy.toml"
    says = (
        f'[callers.good]\nmodels = ["*"]\ntokens = ["{_hash(good)}"]\n'
        f'[callers.narrow]\nmodels = ["churn"]\ntokens = ["{_hash(narrow)}"]\n'
    )
    policy.write_text(says)
    process = start_server(
        *(fraud_bundle.parents[1], *_flags(volume), "--access-policy", str(policy)),
        *("--reflection", "authorised", "--log-level", "debug"),
        # What a message of the C core might say of a call.
        environment={"GRPC_VERBOSITY": "debug"},
    )

    def metadata(token: str) -> tuple[tuple[str, str], ...]:
        return (("authorization", f"Bearer {token}"),)

    with _secure(process.target, root.certificate) as channel:
        reflect = reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo
        request = reflection_pb2.ServerReflectionRequest(list_services="*")
        answer = next(reflect(iter([request]), metadata=metadata(good), timeout=10))
        services = answer.list_services_response.service
        exempt = "grpc.health.v1.Health"
        assert exempt in {service.name for service in services}
        asked = 0
        for service in services:
            request = reflection_pb2.ServerReflectionRequest(file_containing_symbol=service.name)
            for method in _methods_of(channel, request, service.name, metadata(good)):
                for token, code in (
                    ("", grpc.StatusCode.UNAUTHENTICATED),
                    (wrong, grpc.StatusCode.UNAUTHENTICATED),
                ):
                    call = channel.stream_stream(f"/{service.name}/{method}")
                    error = (
                        _error(
                            lambda call=call, token=token: list(
                                call(iter([b""]), metadata=metadata(token) if token else (), timeout=2)
                            )
                        )
                        if service.name != exempt
                        else None
                    )
                    assert error is None or error.code() is code, (service.name, method)
                    asked += error is not None
        assert asked >= 8

        health = health_pb2_grpc.HealthStub(channel)
        assert health.Check(health_pb2.HealthCheckRequest(), timeout=10).status == 1
        predict = PredictionServiceStub(channel).Predict
        models = ModelServiceStub(channel)
        assert predict(_REQUEST, metadata=metadata(good), timeout=10).HasField("classification")
        assert [m.name for m in models.ListModels(ListModelsRequest(), metadata=metadata(good)).models] == [
            "fraud"
        ]
        assert not models.ListModels(ListModelsRequest(), metadata=metadata(narrow), timeout=10).models
        for call in (
            lambda: predict(_REQUEST, metadata=metadata(narrow), timeout=10),
            lambda: models.GetModel(GetModelRequest(model="fraud"), metadata=metadata(narrow), timeout=10),
        ):
            assert _error(call).code() is grpc.StatusCode.PERMISSION_DENIED

        # Broken policies and pairs are refused, and what is in them is not told.
        policy.write_text(says.replace(_hash(narrow), narrow))
        process.wait_for("refused: the new access policy: .* is not sha256:", 20)
        policy.write_text(says + f"[callers.new]\ntokens = [{wrong}]\n")
        process.wait_for("refused: the new access policy: .* is no TOML", 20)
        _place(volume, pair._replace(key=root.sign("other").key), "2")
        process.wait_for("refused: the new certificate", 20)
        assert predict(_REQUEST, metadata=metadata(good), timeout=10).HasField("classification")

        # Who is taken out of the policy is out, over the connection that was there before.
        policy.write_text(says.replace(_hash(good), _hash(wrong)))
        process.wait_for("took the new access policy", 20)
        error = _error(lambda: predict(_REQUEST, metadata=metadata(good), timeout=10))
        assert error.code() is grpc.StatusCode.UNAUTHENTICATED
        assert predict(_REQUEST, metadata=metadata(wrong), timeout=10).HasField("classification")
    assert process.stop() == 0
    log = "".join(process.log)
    secrets = [good, narrow, wrong, *(_hash(token)[7:] for token in (good, narrow, wrong))]
    for file in (pair.key, root.sign("last").key):
        secrets += [line for line in file.read_text().splitlines() if len(line) > 20 and "-" not in line]
    assert len(secrets) > 8
    assert not [secret for secret in secrets if secret in log]


def _methods_of(channel: grpc.Channel, request: Any, service: str, metadata: Any) -> list[str]:
    """Return the names of a service's methods, by reflection."""
    from google.protobuf.descriptor_pb2 import FileDescriptorProto

    answer = next(
        reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo(
            iter([request]), metadata=metadata, timeout=10
        )
    )
    for data in answer.file_descriptor_response.file_descriptor_proto:
        file = FileDescriptorProto.FromString(data)
        for each in file.service:
            if f"{file.package}.{each.name}" == service:
                return [method.name for method in each.method]
    raise AssertionError(f"no {service}")


def test_reflection_may_be_off(
    start_server: Callable[..., Any], fraud_bundle: Path, connect: Callable[..., Any]
) -> None:
    process = start_server(fraud_bundle.parents[1], "--reflection", "off")
    with connect(process.target) as channel:
        PredictionServiceStub(channel).Predict(_REQUEST, timeout=10)
        for version in ("v1", "v1alpha"):
            call = channel.stream_stream(f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo")
            error = _error(lambda call=call: list(call(iter([b""]), timeout=10)))
            assert error.code() is grpc.StatusCode.UNIMPLEMENTED
    assert process.stop() == 0


@pytest.mark.parametrize("allowed", [False, True])
def test_tokens_without_tls_must_be_allowed(
    start_server: Callable[..., Any],
    fraud_bundle: Path,
    connect: Callable[..., Any],
    tmp_path: Path,
    allowed: bool,
) -> None:
    policy = tmp_path / "policy.toml"
    policy.write_text(f'[callers.a]\nmodels = ["*"]\ntokens = ["{_hash("a")}"]\n')
    if allowed:
        flags = ("--access-policy", str(policy), "--plaintext-tokens", "on")
        process = start_server(fraud_bundle.parents[1], *flags)
        with connect(process.target) as channel:
            predict = PredictionServiceStub(channel).Predict
            predict(_REQUEST, metadata=(("authorization", "Bearer a"),), timeout=10)
            assert _error(lambda: predict(_REQUEST, timeout=10)).code() is grpc.StatusCode.UNAUTHENTICATED
        assert process.stop() == 0
        return
    command = [sys.executable, "-m", "server", "--models", str(fraud_bundle.parents[1])]
    ran = subprocess.run(
        [*command, "--port=0", "--health-port=0", "--access-policy", str(policy)],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert ran.returncode == 1
    assert ran.stderr.splitlines()[-1] == (
        f"forest-serve: access_policy {policy}: it has tokens, and without TLS everybody on the way "
        "could read them: set tls_certificate, or allow it by plaintext_tokens"
    )


def test_connections_that_age_lose_no_call_while_certificates_change(  # noqa: PLR0917 - fixtures
    start_server: Callable[..., Any],
    fraud_bundle: Path,
    golden: list[Any],
    call_without_pause: Callable[..., Any],
    authority: Callable[[str], Any],
    tmp_path: Path,
) -> None:
    root, volume = authority("root"), tmp_path / "volume"
    pairs = [root.sign("one"), root.sign("two", key="RSA")]
    _place(volume, pairs[0], "0")
    process = start_server(
        fraud_bundle.parents[1], *_flags(volume), "--max-connection-age", "0.3", "--drain-timeout", "1"
    )
    credentials = grpc.ssl_channel_credentials(root.certificate.read_bytes())
    options = (("grpc.use_local_subchannel_pool", 1), ("grpc.enable_retries", 1))
    with (
        grpc.secure_channel(process.target, credentials, options) as channel,
        call_without_pause(channel, golden) as load,
    ):
        for number in range(1, 4):
            _place(volume, pairs[number % 2], str(number))
            deadline = time.monotonic() + 20
            while sum("took the new certificate" in line for line in tuple(process.log)) < number:
                assert time.monotonic() < deadline
                time.sleep(0.05)
    assert load.failures == []
    assert sum(load.answers.values()) == load.started > 100
    assert process.stop() == 0
