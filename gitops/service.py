"""A service that is asked over HTTP: its address, and why an answer does not come."""

import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from http.client import HTTPException, HTTPMessage
from typing import IO
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import HTTPRedirectHandler, HTTPSHandler, Request, build_opener

from gitops.error import GitopsError

_PATIENCE = 60.0


class ServiceError(GitopsError):
    """A service could not be asked, or did not answer; `passing` if it may answer the same question later."""

    def __init__(self, message: str, passing: bool = False) -> None:
        super().__init__(message)
        self.passing = passing


class RefusalError(ServiceError):
    """A service answered with a status that is none of success.

    Attributes
    ----------
    code : int
        The status.
    reason : str
        Its name.
    body : bytes
        What came with it.
    """

    def __init__(self, code: int, reason: str, body: bytes) -> None:
        super().__init__(f"{code} {reason}", code >= 500)
        self.code = code
        self.reason = reason
        self.body = body


@dataclass(frozen=True, slots=True)
class Answer:
    """What a service said: the body, and the answer's ``Date``, if it has one."""

    body: bytes
    date: str | None


class Service:
    """A service, by its address.

    Parameters
    ----------
    name : str
        As messages call it: ``Argo CD``.
    address : str
        ``HOST[:PORT]``, by https; or an address that begins with ``https://`` or ``http://``.
    headers : mapping
        Sent with every question. They go to this address, and to no other that an answer may lead on to.

    Raises
    ------
    ServiceError
        If the address has another form.
    """

    def __init__(self, name: str, address: str, headers: Mapping[str, str]) -> None:
        self.name = name
        self.address = (address if "://" in address else f"https://{address}").rstrip("/")
        try:
            parts = urlsplit(self.address)
            right = parts.scheme in ("https", "http") and parts.hostname and parts.port != 0
        except ValueError:
            right = False
        if not right or parts.username or parts.query or parts.fragment or not self.address.isprintable():
            raise ServiceError(
                f"{address!r} is not an address of {name}: give HOST, HOST:PORT, or http://HOST:PORT where "
                "it speaks no TLS"
            )
        self._headers = {"Accept": "application/json", **headers}
        # Whose certificates count is the system's to say, or SSL_CERT_FILE's.
        self._opener = build_opener(_NoRedirects, HTTPSHandler(context=ssl.create_default_context()))

    def __str__(self) -> str:
        return f"{self.name} at {self.address}"

    def get(self, path: str, patience: float = _PATIENCE) -> Answer:
        """Ask for a path of the address.

        Raises
        ------
        RefusalError
            If it answers with another status than a success.
        ServiceError
            If it cannot be asked, or leads on to another address.
        """
        request = Request(self.address + path, headers=self._headers)  # noqa: S310 - http or https: see above
        try:
            with self._opener.open(request, timeout=min(patience, _PATIENCE)) as answer:
                return Answer(answer.read(), answer.headers["Date"])
        except HTTPError as error:
            with error:
                raise self._refused(error) from error
        except (URLError, OSError, HTTPException) as error:
            reason = getattr(error, "reason", error)
            hint = (
                ". If an authority of your own signed its certificate, name that one's file in SSL_CERT_FILE"
                if isinstance(reason, ssl.SSLCertVerificationError)
                else ""
            )
            raise ServiceError(f"{self} cannot be asked: {reason}{hint}", not hint) from error

    def odd(self, error: Exception) -> ServiceError:
        """Return what is to be said of an answer that is not of this service's kind."""
        return ServiceError(
            f"{self.address} answered, but not as {self.name} does ({error!r}): is it {self.name}'s address?"
        )

    def _refused(self, error: HTTPError) -> ServiceError:
        if error.code < 400:
            return ServiceError(f"{self.address} leads on to {error.headers['Location']}: give that address")
        try:
            body = error.read()
        except (OSError, HTTPException):
            body = b""
        return RefusalError(error.code, error.reason, body)


def check_token(token: str, variable: str) -> None:
    """Raise `ServiceError` for what cannot be a token, by the variable that it came in, and not by itself."""
    if not (token.isascii() and token.isprintable()):
        raise ServiceError(f"{variable} is not a token: it has a line's end or another odd character")


class _NoRedirects(HTTPRedirectHandler):
    """The headers are for the address that was given, and for no other."""

    def redirect_request(  # noqa: PLR0917 - as the base has it
        self, req: Request, fp: IO[bytes], code: int, msg: str, headers: HTTPMessage, newurl: str
    ) -> None:
        return None
