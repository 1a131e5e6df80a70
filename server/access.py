"""Who may call, and which models.

A policy knows callers by a token or by a name in their certificate, and says which models each may see. The
services are made once for each caller, on the models that it may see: no method has to think of it, and none
can forget it.
"""

import hashlib
import hmac
import re
import tomllib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

from model_bundle.bundle import Bundle
from model_bundle.manifest import ManifestError, check_name
from server.call import Call, Exchange, Metadata, Method, Send, Subscription, Unary, Work
from server.catalog import Catalog
from server.followed import Followed
from server.models import Model
from server.status import Code, StatusError

_ALL = "*"
_HASH = re.compile(r"sha256:([0-9a-f]{64})")


@dataclass(frozen=True, slots=True, eq=False)
class Caller:
    """One caller of a policy: its name, and the models that it may see; None for all."""

    name: str
    models: frozenset[str] | None


class Policy:
    """The callers.

    Parameters
    ----------
    tokens
        Callers by the SHA-256 of their token.
    certificates
        Callers by a name in their certificate.
    """

    def __init__(self, tokens: Mapping[bytes, Caller], certificates: Mapping[str, Caller]):
        self._tokens = dict(tokens)
        self._certificates = dict(certificates)
        self._seen: dict[bytes, Caller] = {}

    def caller(self, call: Call) -> Caller:
        """Return who calls. A token decides, where the policy knows any; else the certificate does.

        Raises
        ------
        StatusError
            UNAUTHENTICATED or PERMISSION_DENIED for somebody else.
        """
        if self._tokens:
            token = _token(call.metadata)
            if token is not None:
                digest = hashlib.sha256(token.encode(errors="surrogateescape")).digest()
                # Only what was found good is kept: guesses cannot fill the memory, nor be timed.
                caller = self._seen.get(digest) or self._find(digest)
                if caller is None:
                    raise StatusError(Code.UNAUTHENTICATED, "the token is none that is known here")
                return caller
        names = call.names() if self._certificates else ()
        for name in names:
            if caller := self._certificates.get(name):
                return caller
        if self._tokens:
            raise StatusError(
                Code.UNAUTHENTICATED, "the call has no token: send the metadata 'authorization: Bearer TOKEN'"
            )
        raise StatusError(
            Code.PERMISSION_DENIED,
            f"no caller is known by the certificate's names: {', '.join(names) or 'there are none'}",
        )

    def _find(self, digest: bytes) -> Caller | None:
        """Compare with every token, in a time that does not depend on which one it is."""
        found = None
        for known, caller in self._tokens.items():
            if hmac.compare_digest(known, digest):
                found = caller
        if found:
            self._seen[digest] = found
        return found


def read(file: Path, *, tokens: bool, certificates: bool) -> Policy:
    """Read a policy.

    Parameters
    ----------
    file
        Where it is: TOML, with a table ``callers.<name>`` for each caller.
    tokens
        Whether callers may be known by tokens: not over a connection that others can read.
    certificates
        Whether callers show certificates.

    Raises
    ------
    ValueError
        If it cannot be read, or says what cannot be.
    """
    try:
        table = tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(f"access_policy: cannot read {file}: {error.strerror}") from error
    except ValueError as error:
        raise ValueError(f"access_policy {file} is no TOML: {error}") from None
    draft = _Draft(file)
    callers = table.pop("callers", None)
    if table or not isinstance(callers, dict) or not callers:
        draft.fail("it holds tables [callers.NAME], one at least, and nothing else")
    for name, says in callers.items():
        draft.add(name, says)
    if draft.tokens and not tokens:
        draft.fail(
            "it has tokens, and without TLS everybody on the way could read them: set tls_certificate, or "
            "allow it by plaintext_tokens"
        )
    if draft.certificates and not certificates:
        draft.fail("it has certificates, and without tls_client_ca no caller shows one")
    return Policy(draft.tokens, draft.certificates)


@dataclass(slots=True)
class _Draft:
    """A policy while it is read. What it says of a fault quotes no token, nor what stands in its place."""

    file: Path
    tokens: dict[bytes, Caller] = field(default_factory=dict)
    certificates: dict[str, Caller] = field(default_factory=dict)

    def add(self, name: str, says: Any) -> None:
        """Take one caller's table."""
        if not isinstance(says, dict) or not says.keys() <= {"models", "tokens", "certificates"}:
            self.fail(f"callers.{name} holds 'models', 'tokens' and 'certificates', and nothing else")
        models, tokens, certificates = (
            self._texts(f"callers.{name}.{key}", says.get(key, []))
            for key in ("models", "tokens", "certificates")
        )
        if not models or not (tokens or certificates):
            self.fail(f"callers.{name} has no models, or neither tokens nor certificates")
        for model in models:
            try:
                if model != _ALL:
                    check_name(model)
            except ManifestError as error:
                self.fail(f"callers.{name}.models: {error}")
        caller = Caller(name, None if _ALL in models else frozenset(models))
        for index, token in enumerate(tokens):
            match = _HASH.fullmatch(token)
            if not match:
                self.fail(
                    f"callers.{name}.tokens[{index}] is not sha256: and 64 hexadecimal digits: it is "
                    "a token's hash that belongs here, never a token"
                )
            if self.tokens.setdefault(bytes.fromhex(match[1]), caller) is not caller:
                self.fail(f"callers.{name}.tokens[{index}] is another caller's too")
        for certificate in certificates:
            if not certificate:
                self.fail(f"callers.{name}.certificates has an empty name")
            if self.certificates.setdefault(certificate, caller) is not caller:
                self.fail(f"callers.{name}.certificates: {certificate} is another caller's too")

    def fail(self, message: str) -> NoReturn:
        """Say what is wrong, and where."""
        raise ValueError(f"access_policy {self.file}: {message}")

    def _texts(self, place: str, values: Any) -> list[str]:
        if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
            self.fail(f"{place} is no list of texts")
        return list(values)


class PermittedModels:
    """Those of the models that a caller may see.

    Parameters
    ----------
    models
        All of them.
    caller
        Who sees them.
    """

    def __init__(self, models: Catalog, caller: Caller):
        self._models = models
        self._caller = caller

    @property
    def found(self) -> list[Model]:
        """Every version of every model that the caller may see."""
        return [model for model in self._models.found if self._permits(model.name)]

    def find(self, name: str, version: str) -> Model:
        """Return a model. PERMISSION_DENIED if the caller may not see it, whether it is here or not."""
        self._permit(name)
        return self._models.find(name, version)

    def serving(self, name: str, version: str) -> tuple[Model, Bundle]:
        """Return a model, and the bundle that answers its calls. PERMISSION_DENIED as `find` has it."""
        self._permit(name)
        return self._models.serving(name, version)

    def is_default(self, model: Model) -> bool:
        """Return whether requests without a version go to this one."""
        return self._models.is_default(model)

    def names(self) -> dict[str, bool]:
        """Return the name of each model that the caller may see, and whether it may be called."""
        return {name: good for name, good in self._models.names().items() if self._permits(name)}

    def _permit(self, name: str) -> None:
        if not self._permits(name):
            raise StatusError(
                Code.PERMISSION_DENIED,
                f"{self._caller.name} may not call model {name[:64]!r}, but: "
                f"{', '.join(sorted(self._caller.models or ()))}",
            )

    def _permits(self, name: str) -> bool:
        return self._caller.models is None or name in self._caller.models


class Access:
    """Carries each call to the services of its caller.

    Parameters
    ----------
    policy
        Who may call.
    models
        All models.
    methods
        Returns what there is to call, by path, for who may see some models.
    """

    def __init__(
        self,
        policy: Followed[Policy],
        models: Catalog,
        methods: Callable[[Catalog], Mapping[str, Method]],
    ):
        self._policy = policy
        self._models = models
        self._methods = methods
        self._of: tuple[Policy, dict[Caller, Mapping[str, Method]]] = (policy.value, {})

    def methods(self) -> dict[str, Method]:
        """Return the methods, each for whom the policy knows, on the models that the caller may see."""
        return {
            path: _carried(method, self._finder(path)) for path, method in self._methods(self._models).items()
        }

    def known(self, methods: Mapping[str, Method]) -> dict[str, Method]:
        """Return methods that are for everybody whom the policy knows."""

        def carried(method: Method) -> Method:
            def known(call: Call) -> Method:
                call.caller = self._policy.value.caller(call).name
                return method

            return _carried(method, known)

        return {path: carried(method) for path, method in methods.items()}

    def _finder(self, path: str) -> Callable[[Call], Method]:
        return lambda call: self._methods_of(call)[path]

    def _methods_of(self, call: Call) -> Mapping[str, Method]:
        policy = self._policy.value
        caller = policy.caller(call)
        call.caller = caller.name
        known, methods = self._of
        if known is not policy:
            methods = {}
            self._of = (policy, methods)
        found = methods.get(caller)
        if found is None:
            found = methods[caller] = self._methods(PermittedModels(self._models, caller))
        return found


def _carried(method: Method, find: Callable[[Call], Any]) -> Method:
    """Return a method of the same kind that asks for each call which one is meant."""

    def handle(data: bytes, call: Call) -> bytes | Work:
        answer: bytes | Work = find(call).handle(data, call)
        return answer

    def subscribe(data: bytes, call: Call, send: Send) -> Callable[[], None]:
        end: Callable[[], None] = find(call).subscribe(data, call, send)
        return end

    match method:
        case Unary():
            return Unary(handle)
        case Exchange():
            return Exchange(handle)
        case Subscription():
            return Subscription(subscribe)


def _token(metadata: Metadata) -> str | None:
    """Return a call's bearer token; None if it has no ``authorization``.

    Raises
    ------
    StatusError
        UNAUTHENTICATED if that is something else, or there are two.
    """
    found: Iterable[str | bytes] = [value for key, value in metadata if key == "authorization"]
    match found:
        case []:
            return None
        case [str(value)] if value[:7].lower() == "bearer ":
            return value[7:].strip()
    raise StatusError(
        Code.UNAUTHENTICATED, "the metadata 'authorization' is not one bearer token: 'Bearer TOKEN'"
    )
