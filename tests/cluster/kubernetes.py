"""The cluster, by ``kubectl``."""

import json
import subprocess
import time
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

Object = dict[str, Any]
Found = TypeVar("Found")


class Kubernetes:
    """A cluster, as its administrator sees it."""

    def __init__(self, environment: Mapping[str, str]):
        self.environment = dict(environment)

    def command(self, *arguments: str) -> list[str]:
        """Return a ``kubectl`` command, to be run in `environment`."""
        return ["kubectl", *arguments]

    def try_run(
        self, *arguments: str, standard_input: bytes | None = None, seconds: float = 120
    ) -> subprocess.CompletedProcess[bytes]:
        """Return what a ``kubectl`` command did, also when it failed."""
        return subprocess.run(
            self.command(*arguments), input=standard_input, env=self.environment, capture_output=True,
            check=False, timeout=seconds,
        )  # fmt: skip

    def run(self, *arguments: str, standard_input: bytes | None = None, seconds: float = 120) -> str:
        """Return what a ``kubectl`` command prints; it must succeed."""
        done = self.try_run(*arguments, standard_input=standard_input, seconds=seconds)
        assert done.returncode == 0, f"kubectl {' '.join(arguments)}: {done.stderr.decode()}"
        return done.stdout.decode()

    def follow(self, *arguments: str) -> subprocess.Popen[str]:
        """Start a ``kubectl`` command that prints until it is ended."""
        return subprocess.Popen(
            self.command(*arguments), env=self.environment, stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL, text=True,
        )  # fmt: skip

    def apply(self, *objects: Object, namespace: str | None = None) -> None:
        """Apply some objects."""
        document = {"apiVersion": "v1", "kind": "List", "items": list(objects)}
        where = [f"--namespace={namespace}"] if namespace else []
        self.run("apply", "--filename=-", *where, standard_input=json.dumps(document).encode())

    def get(self, kind: str, name: str, namespace: str | None = None) -> Object:
        """Return one object."""
        where = [f"--namespace={namespace}"] if namespace else []
        found: Object = json.loads(self.run("get", kind, name, "--output=json", *where))
        return found

    def find(self, kind: str, namespace: str, selector: str = "") -> list[Object]:
        """Return the objects of a kind in a namespace that have some labels."""
        answer = self.run("get", kind, f"--namespace={namespace}", f"--selector={selector}", "--output=json")
        found: list[Object] = json.loads(answer)["items"]
        return found

    def exists(self, kind: str, name: str, namespace: str) -> bool:
        """Return whether an object is there."""
        return bool(self.run("get", kind, name, f"--namespace={namespace}", "--ignore-not-found").strip())


def until(what: str, ask: Callable[[], Found], seconds: float = 60, pause: float = 0.2) -> Found:
    """Ask again and again until there is an answer, and return it.

    Parameters
    ----------
    what : str
        What is waited for: what a failure says.
    ask : callable
        Its answer counts when it is true.
    """
    deadline = time.monotonic() + seconds
    while not (found := ask()):
        assert time.monotonic() < deadline, f"not in {seconds:g} s: {what}"
        time.sleep(pause)
    return found
