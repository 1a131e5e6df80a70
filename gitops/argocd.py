"""What Argo CD says of an Application, asked over its REST API."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import quote, urlencode

from gitops.service import RefusalError, Service, ServiceError, check_token

# A refresh reads Git, and renders: Argo CD answers when that is done.
_PATIENCE = 60.0


@dataclass(frozen=True, slots=True)
class Sync:
    """A sync that succeeded: the commit that it brought, and when it had finished."""

    revision: str
    finished: datetime


@dataclass(frozen=True, slots=True)
class Operation:
    """The sync that is going on, or the last one: its phase in Argo CD's words, and the commit it brings."""

    phase: str
    revision: str
    message: str


@dataclass(frozen=True, slots=True)
class Resource:
    """An object of the Application; `health` is empty for what has none."""

    kind: str
    name: str
    sync: str
    health: str
    message: str


@dataclass(frozen=True, slots=True)
class Application:
    """An Application's state, as its controller saw it after a refresh.

    Attributes
    ----------
    sync, health : str
        In Argo CD's words: ``Synced``, ``OutOfSync``, …, and ``Healthy``, ``Degraded``, …
    revision : str
        The commit that the cluster was compared with.
    health_since : datetime or None
        When health last became another.
    automated : bool
        Whether it syncs by itself.
    images : frozenset of str
        What its objects and their pods run, those of a rollout that is going on included.
    history : tuple of Sync
        Syncs of the whole Application that succeeded, oldest first: the last ten, unless the Application says
        otherwise.
    requested : bool
        Whether a sync was asked for that has not begun.
    conditions : mapping
        Argo CD's complaints: type, and message.
    asked : datetime
        When it answered, by its own clock.
    """

    name: str
    sync: str
    revision: str
    health: str
    health_since: datetime | None
    automated: bool
    images: frozenset[str]
    history: tuple[Sync, ...]
    requested: bool
    operation: Operation | None
    resources: tuple[Resource, ...]
    conditions: Mapping[str, str]
    asked: datetime

    @property
    def syncing(self) -> bool:
        """Whether a sync is going on, or about to."""
        return self.requested or (
            self.operation is not None and self.operation.phase in ("Running", "Terminating")
        )


class ArgoCD:
    """An Argo CD, by its address.

    Parameters
    ----------
    address : str
        ``HOST[:PORT]``, by https; or an address that begins with ``https://`` or ``http://``.
    token : str
        Of an account that may `get` Applications.

    Raises
    ------
    ServiceError
        If the address has another form, or there is no token.
    """

    def __init__(self, address: str, token: str) -> None:
        self._service = Service("Argo CD", address, {"Authorization": f"Bearer {token}"})
        self.address = self._service.address
        if not token:
            raise ServiceError(
                f"there is no token for {self._service}: set ARGOCD_AUTH_TOKEN to one of an "
                "account that may `get` Applications (`argocd account generate-token`)"
            )
        check_token(token, "ARGOCD_AUTH_TOKEN")

    def application(self, environment: str, model: str, patience: float = _PATIENCE) -> Application:
        """Let Argo CD look at Git and the cluster again, and return what it found.

        Raises
        ------
        ServiceError
            If it cannot be asked, does not know the Application, or may not tell.
        """
        name, project = f"{environment}-{model}", f"forest-{environment}"
        query = urlencode({"refresh": "normal", "project": project})
        try:
            answer = self._service.get(f"/api/v1/applications/{quote(name, safe='')}?{query}", patience)
        except RefusalError as error:
            raise self._refused(error, name, project) from error
        try:
            return _application(name, json.loads(answer.body), _asked(answer.date))
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise self._service.odd(error) from error

    def _refused(self, error: RefusalError, name: str, project: str) -> ServiceError:
        try:
            said = str(json.loads(error.body)["message"])
        except (ValueError, TypeError, KeyError):
            said = error.reason
        if error.code == 401:
            return ServiceError(f"{self._service} does not accept the token in ARGOCD_AUTH_TOKEN: {said}")
        if error.code == 403:
            return ServiceError(
                f"{self._service} does not let the token's account see {name} ({said}): it needs "
                f"the right `applications, get, {project}/*`"
            )
        if error.code == 404:
            return ServiceError(
                f"{self._service} has no Application {name} in the project {project}", passing=True
            )
        return ServiceError(f"{self._service} answered {error.code} for {name}: {said}", error.passing)


def _application(name: str, document: Mapping[str, Any], asked: datetime) -> Application:
    status = document.get("status") or {}
    sync, health = status.get("sync") or {}, status.get("health") or {}
    operation = status.get("operationState") or {}
    since = health.get("lastTransitionTime")
    if document["metadata"]["name"] != name:
        raise ValueError(f"it tells of {document['metadata']['name']}")
    return Application(
        name=name,
        sync=str(sync.get("status") or "Unknown"),
        revision=str(sync.get("revision") or ""),
        health=str(health.get("status") or "Unknown"),
        health_since=_time(since) if since else None,
        automated=_automated((document["spec"].get("syncPolicy") or {}).get("automated")),
        images=frozenset((status.get("summary") or {}).get("images") or ()),
        history=tuple(
            Sync(str(entry.get("revision") or ""), _time(entry["deployedAt"]))
            for entry in status.get("history") or ()
        ),
        requested=bool(document.get("operation")),
        operation=Operation(
            str(operation["phase"]),
            str((operation.get("syncResult") or {}).get("revision") or ""),
            str(operation.get("message") or ""),
        )
        if operation
        else None,
        resources=tuple(
            Resource(
                str(entry["kind"]),
                str(entry["name"]),
                str(entry.get("status") or ""),
                str((entry.get("health") or {}).get("status") or ""),
                str((entry.get("health") or {}).get("message") or ""),
            )
            for entry in status.get("resources") or ()
        ),
        conditions={
            str(entry["type"]): str(entry.get("message") or "") for entry in status.get("conditions") or ()
        },
        asked=asked,
    )


def _automated(policy: Mapping[str, Any] | None) -> bool:
    return policy is not None and policy.get("enabled") is not False


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)


def _asked(date: str | None) -> datetime:
    return parsedate_to_datetime(date).astimezone(UTC) if date else datetime.now(UTC)
