"""Argo CD, by the API that its UI uses."""

import json
import urllib.error
import urllib.request
from typing import Any

from tests.cluster.kubernetes import Object, until


class RefusedError(Exception):
    """What Argo CD refuses, in its own words."""


class ArgoCD:
    """Argo CD, as someone sees it who holds a token."""

    def __init__(self, address: str, token: str):
        self._address = address.rstrip("/")
        self._token = token
        # A proxy of the machine does not know the cluster.
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def ask(self, method: str, path: str, body: Object | None = None) -> Any:
        """Return the API's answer.

        Raises
        ------
        RefusedError
            With what Argo CD said.
        """
        request = urllib.request.Request(
            f"{self._address}/api/{path}",
            None if body is None else json.dumps(body).encode(),
            {"Authorization": f"Bearer {self._token}", "Content-Type": "application/json"},
            method=method,
        )
        try:
            with self._opener.open(request, timeout=60) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            raise RefusedError(json.load(error).get("message", str(error))) from error

    def application(self, name: str, refresh: str = "") -> Object:
        """Return an Application; with `refresh`, after Git was looked at."""
        found: Object = self.ask(
            "GET", f"v1/applications/{name}" + (f"?refresh={refresh}" if refresh else "")
        )
        return found

    def exists(self, name: str) -> bool:
        """Return whether there is an Application of that name."""
        listed = self.ask("GET", "v1/applications?fields=items.metadata.name")["items"] or []
        return name in [item["metadata"]["name"] for item in listed]

    def state(self, name: str) -> tuple[str, str]:
        """Return what the UI shows: whether it is synced, and its health."""
        status = self.application(name)["status"]
        return status["sync"]["status"], status["health"]["status"]

    def sync(self, name: str) -> None:
        """Press Sync."""
        self.ask("POST", f"v1/applications/{name}/sync", {})

    def rollback(self, name: str, identity: int) -> None:
        """Press Rollback on an entry of the history."""
        self.ask("POST", f"v1/applications/{name}/rollback", {"name": name, "id": identity})

    def wait(
        self,
        name: str,
        sync: str = "Synced",
        health: str = "Healthy",
        revision: str = "",
        seconds: float = 90,
    ) -> Object:
        """Return an Application once it is in a state, on a commit if one is given; an empty state is any."""
        seen: list[Any] = []

        def reached() -> Object | None:
            application = self.application(name)
            status = application.get("status", {})
            now = (
                status.get("sync", {}).get("status"),
                status.get("health", {}).get("status"),
                status.get("sync", {}).get("revision", ""),
            )
            seen[:] = [*now, status.get("operationState", {}).get("message"), status.get("conditions")]
            running = "operation" in application or status.get("operationState", {}).get("phase") == "Running"
            right = sync in ("", now[0]) and health in ("", now[1]) and now[2].startswith(revision)
            if right and not running:
                return application
            return None

        try:
            return until(f"{name} is {sync} and {health} on {revision or 'any commit'}", reached, seconds)
        except AssertionError as error:
            raise AssertionError(f"{error}; it is {seen}") from None
