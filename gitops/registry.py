"""What a model registry has approved: MLflow's, asked over its REST API."""

import base64
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import urlencode

from gitops.release import Release
from gitops.service import RefusalError, Service, ServiceError, check_token

T = TypeVar("T")

# As forest-export writes them: the alias of what is approved for production, and a version's tags.
_ALIAS = "production"
_VERSION = "forest.version"
_DIGEST = "forest.bundle_digest"


@dataclass(frozen=True, slots=True)
class Registered:
    """A bundle in the registry.

    Attributes
    ----------
    number : str
        The registry's own count of the model's bundles.
    version, digest : str
        The bundle's; empty where whoever registered it has not told.
    run : str
        The id of the run that logged it.
    """

    number: str
    version: str
    digest: str
    run: str


@dataclass(frozen=True, slots=True)
class Credentials:
    """Who asks: a token, or a name and a password, or nobody in particular."""

    token: str = ""
    user: str = ""
    password: str = ""

    def headers(self) -> Mapping[str, str]:
        """Return what goes with every question.

        Raises
        ------
        ServiceError
            If the token cannot be one.
        """
        if self.user:
            pair = base64.b64encode(f"{self.user}:{self.password}".encode()).decode()
            return {"Authorization": f"Basic {pair}"}
        if not self.token:
            return {}
        check_token(self.token, "MLFLOW_TRACKING_TOKEN")
        return {"Authorization": f"Bearer {self.token}"}


class Registry:
    """A model registry, by its MLflow's address.

    Parameters
    ----------
    address : str
        ``HOST[:PORT]``, by https; or an address that begins with ``https://`` or ``http://``.
    credentials : Credentials
        If MLflow asks who is asking.

    Raises
    ------
    ServiceError
        If the address has another form.
    """

    def __init__(self, address: str, credentials: Credentials) -> None:
        self._service = Service("MLflow", address, credentials.headers())

    def approved(self, model: str, release: Release) -> str:
        """Return who says that a release of a model is approved for production.

        Raises
        ------
        ServiceError
            If it is not, or the registry cannot be asked.
        """
        found = self._in_force(model)
        if found is not None and found.digest == release.bundle:
            return f"Approved for {_ALIAS}: {model} {release.version}, run {found.run}"
        raise ServiceError(
            f"{self._service} has not approved {model} {release.version} for {_ALIAS}: {model} "
            f"{release.tag} holds the bundle {release.bundle}, and approved is {_described(model, found)}. "
            f"{self._way_out(model, release)}"
        )

    def _in_force(self, model: str) -> Registered | None:
        """Return the version that the alias names."""
        number = self._ask("registered-models/get", _aliased, name=model)
        return self._ask("model-versions/get", _registered, name=model, version=number) if number else None

    def _way_out(self, model: str, release: Release) -> str:
        """Return the command that would approve a release."""
        condition = f"name = '{model}' and tags.`{_DIGEST}` = '{release.bundle}'"
        holding = self._ask("model-versions/search", _all, filter=condition)
        if not holding:
            return (
                "No run there has logged that bundle: "
                f"`forest-export track …/{model}/{release.version}` does, and says the run's id; "
                f"then `forest-export promote --run-id ID --to {_ALIAS}` approves it"
            )
        return f"`forest-export promote --run-id {holding[0].run} --to {_ALIAS}` approves it"

    def _ask(self, what: str, read: Callable[[Mapping[str, Any]], T], **parameters: str) -> T | None:
        """Return what is read from an answer; None if there is no such thing."""
        try:
            answer = self._service.get(f"/api/2.0/mlflow/{what}?{urlencode(parameters)}")
        except RefusalError as error:
            self._must_be_absent(error)
            return None
        try:
            return read(json.loads(answer.body))
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise self._service.odd(error) from error

    def _must_be_absent(self, error: RefusalError) -> None:
        """Raise what a refusal comes to, unless it says that there is no such thing."""
        try:
            document = json.loads(error.body)
            code, said = str(document["error_code"]), str(document.get("message") or error.reason)
        except (ValueError, TypeError, KeyError):
            code, said = "", error.reason
        if code == "RESOURCE_DOES_NOT_EXIST":
            return
        if error.code in (401, 403):
            raise ServiceError(
                f"{self._service} does not let this account read the registry ({error.code}: {said}): set "
                "MLFLOW_TRACKING_TOKEN, or MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, to those "
                "of one that may"
            ) from error
        hint = "" if code else f": is {self._service.address} MLflow's address?"
        raise ServiceError(f"{self._service} answered {error.code}: {said}{hint}", error.passing) from error


def _aliased(document: Mapping[str, Any]) -> str:
    """Return the number of the version that is approved; nothing if none is."""
    aliases = document["registered_model"].get("aliases", ())
    return next((str(alias["version"]) for alias in aliases if alias["alias"] == _ALIAS), "")


def _registered(document: Mapping[str, Any]) -> Registered:
    return _version(document["model_version"])


def _all(document: Mapping[str, Any]) -> list[Registered]:
    return [_version(found) for found in document.get("model_versions", ())]


def _version(document: Mapping[str, Any]) -> Registered:
    tags = {tag["key"]: tag.get("value", "") for tag in document.get("tags", ())}
    run = str(document.get("run_id", ""))
    if not run.isprintable():
        raise ValueError(f"run {run!r}")  # it would go into a commit's message
    return Registered(str(document["version"]), str(tags.get(_VERSION, "")), str(tags.get(_DIGEST, "")), run)


def _described(model: str, found: Registered | None) -> str:
    if found is None:
        return "nothing"
    if not found.digest:
        return f"its number {found.number} of {model}, which forest-export has not registered"
    return f"{model} {found.version} with {found.digest}, run {found.run}"
