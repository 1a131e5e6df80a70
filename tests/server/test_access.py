"""Who may call, and which models."""

import hashlib
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from server import access
from server.access import Access, PermittedModels
from server.call import Call, Exchange, Subscription, Unary
from server.catalog import Catalog
from server.followed import Followed
from server.models import Models
from server.status import Code, StatusError

_HASHED = "sha256:" + hashlib.sha256(b"open sesame").hexdigest()
_POLICY = f"""
[callers.payments]
models = ["mixed"]
tokens = ["{_HASHED}"]

[callers.risk]
models = ["*"]
certificates = ["risk.example"]

[callers.other]
models = ["other"]
tokens = ["sha256:{hashlib.sha256(b"second").hexdigest()}"]
certificates = ["other.example"]
"""


def _call(*metadata: tuple[str, str], names: tuple[str, ...] = ()) -> Call:
    call = Call(math.inf, (("user-agent", "x"), *metadata), lambda: "nobody")
    call.names = lambda: names
    return call


def _read(folder: Path, text: str = _POLICY, *, tokens: bool = True, certificates: bool = True) -> Any:
    file = folder / "policy.toml"
    file.write_text(text)
    return access.read(file, tokens=tokens, certificates=certificates)


def _refused(run: Callable[[], Any]) -> StatusError:
    with pytest.raises(StatusError) as caught:
        run()
    return caught.value


@pytest.mark.parametrize("scheme", ["Bearer ", "bearer "])
def test_callers_are_known_by_token_or_certificate(tmp_path: Path, scheme: str) -> None:
    policy = _read(tmp_path)
    for _ in range(2):
        assert policy.caller(_call(("authorization", scheme + "open sesame"))).name == "payments"
        assert policy.caller(_call(names=("unknown", "risk.example"))).name == "risk"
    # The token decides.
    both = _call(("authorization", "Bearer second"), names=("risk.example",))
    assert policy.caller(both).name == "other"


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ((), "the call has no token: "),
        ((("authorization", "Bearer wrong"),), "the token is none that is known here"),
        ((("authorization", "Bearer " + _HASHED),), "the token is none that is known here"),
        ((("authorization", "Bearer "),), "the token is none that is known here"),
        ((("authorization", "Bearer \udcff"),), "the token is none that is known here"),
        ((("authorization", "Basic b3Blbg=="),), "the metadata 'authorization' is not one bearer token"),
        ((("authorization", "Bearer open sesame"),) * 2, "the metadata 'authorization' is not one bearer"),
    ],
)
def test_nobody_else_is(tmp_path: Path, metadata: Any, message: str) -> None:
    policy = _read(tmp_path)
    # A certificate does not mend a wrong token.
    error = _refused(lambda: policy.caller(_call(*metadata, names=("risk.example",) if metadata else ())))
    assert error.code is Code.UNAUTHENTICATED
    assert error.message.startswith(message)
    assert "wrong" not in error.message


def test_where_no_token_is_known_the_header_is_not_looked_at(tmp_path: Path) -> None:
    policy = _read(tmp_path, '[callers.a]\nmodels = ["*"]\ncertificates = ["a"]\n', tokens=False)
    assert policy.caller(_call(("authorization", "Basic x"), names=("a",))).name == "a"
    error = _refused(lambda: policy.caller(_call(names=("b", "c"))))
    assert (error.code, error.message) == (
        Code.PERMISSION_DENIED,
        "no caller is known by the certificate's names: b, c",
    )


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "one at least"),
        ("[callers]\n", "one at least"),
        ("callers = 1\n", "one at least"),
        ('[callers.a]\nmodels = ["m"]\ncertificates = ["x"]\n[other]\n', "and nothing else"),
        ('[callers.a]\nmodel = ["m"]\ncertificates = ["x"]\n', "callers.a holds 'models'"),
        ('[callers.a]\nmodels = ["m"]\ntoken = "secret"\n', "callers.a holds 'models'"),
        ('[callers.a]\nmodels = "m"\ncertificates = ["x"]\n', "callers.a.models is no list of texts"),
        ('[callers.a]\nmodels = [1]\ncertificates = ["x"]\n', "callers.a.models is no list of texts"),
        ('[callers.a]\nmodels = ["M"]\ncertificates = ["x"]\n', "callers.a.models: model name 'M'"),
        ('[callers.a]\nmodels = []\ncertificates = ["x"]\n', "callers.a has no models, or neither"),
        ('[callers.a]\nmodels = ["m"]\n', "callers.a has no models, or neither"),
        ('[callers.a]\nmodels = ["m"]\ncertificates = [""]\n', "has an empty name"),
        ('[callers.a]\nmodels = ["m"]\ntokens = ["secret"]\n', "callers.a.tokens[0] is not sha256:"),
        ('[callers.a]\nmodels = ["m"]\ntokens = [secret]\n', "is no TOML: "),
        (_POLICY + f'[callers.z]\nmodels = ["m"]\ntokens = ["{_HASHED}"]\n', "is another caller's too"),
        (
            _POLICY + '[callers.z]\nmodels = ["m"]\ncertificates = ["risk.example"]\n',
            "is another caller's too",
        ),
    ],
)
def test_a_policy_that_cannot_be_is_refused_and_no_token_is_quoted(
    tmp_path: Path, text: str, reason: str
) -> None:
    with pytest.raises(ValueError, match="access_policy") as caught:
        _read(tmp_path, text)
    assert reason in str(caught.value)
    assert "secret" not in str(caught.value)
    assert _HASHED not in str(caught.value)


def test_tokens_need_tls_and_certificates_a_client_ca(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="it has tokens, and without TLS"):
        _read(tmp_path, tokens=False)
    with pytest.raises(ValueError, match="it has certificates, and without tls_client_ca"):
        _read(tmp_path, certificates=False)
    with pytest.raises(ValueError, match=r"access_policy: cannot read .*none"):
        access.read(tmp_path / "none", tokens=True, certificates=True)


def test_models_that_a_caller_may_not_see_are_not_there(tmp_path: Path, mixed_bundle: Path) -> None:
    models = Models(mixed_bundle.parents[1])
    models.load()
    policy = _read(tmp_path)
    sees = PermittedModels(models, policy.caller(_call(("authorization", "Bearer open sesame"))))
    assert sees.found == models.found
    assert sees.names() == {"mixed": True}
    assert sees.find("mixed", "") is models.found[0]
    assert sees.is_default(models.found[0])
    assert _refused(lambda: sees.find("mixed", "9.0.0")).code is Code.NOT_FOUND

    blind = PermittedModels(models, policy.caller(_call(("authorization", "Bearer second"))))
    assert (blind.found, blind.names()) == ([], {})
    # Whether a model is here is not told either.
    for name in ("mixed", "none", ""):
        error = _refused(lambda name=name: blind.find(name, ""))
        assert (error.code, error.message) == (
            Code.PERMISSION_DENIED,
            f"other may not call model {name!r}, but: other",
        )


def test_every_kind_of_method_is_its_callers(tmp_path: Path, mixed_bundle: Path) -> None:
    models = Models(mixed_bundle.parents[1])
    models.load()
    made = []

    def methods(seen: Catalog) -> dict[str, Any]:
        made.append(seen)

        def handle(_data: bytes, _call: Call) -> bytes:
            return ",".join(seen.names()).encode()

        def subscribe(data: bytes, call: Call, send: Any) -> Any:
            send(handle(data, call))
            return lambda: None

        return {"/u": Unary(handle), "/e": Exchange(handle), "/s": Subscription(subscribe)}

    file = tmp_path / "policy.toml"
    file.write_text(_POLICY)
    policy = Followed("access policy", [file], lambda: access.read(file, tokens=True, certificates=True))
    guarded: Any = Access(policy, models, methods).methods()
    assert {path: type(method) for path, method in guarded.items()} == {
        "/u": Unary,
        "/e": Exchange,
        "/s": Subscription,
    }

    def answers(call: Call) -> list[bytes]:
        heard: list[bytes] = []
        guarded["/s"].subscribe(b"", call, heard.append)()
        return [guarded["/u"].handle(b"", call), guarded["/e"].handle(b"", call), *heard]

    may, may_not = (_call(("authorization", f"Bearer {token}")) for token in ("open sesame", "second"))
    for _ in range(3):
        assert answers(may) == [b"mixed"] * 3
        assert answers(may_not) == [b""] * 3
    # One for all, and one for each of the callers that came.
    assert len(made) == 3
    for path in guarded:
        handle = getattr(guarded[path], "handle", None) or guarded[path].subscribe
        arguments = (b"", _call(), *([lambda _: None] if path == "/s" else []))
        error = _refused(lambda handle=handle, arguments=arguments: handle(*arguments))
        assert error.code is Code.UNAUTHENTICATED

    # A new policy counts from the next call on.
    file.write_text(_POLICY.replace('["mixed"]', '["none"]'))
    policy.look()
    policy.look()
    assert answers(may) == [b""] * 3
