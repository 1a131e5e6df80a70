"""How many pods staging has, and what Argo CD says of it meanwhile."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import yaml

from gitops.layout import STAGING
from tests.cluster.caller.manifest import pod
from tests.cluster.clone import MODEL
from tests.cluster.system import System, application, namespace

_NAME = f"{MODEL}-forest"


class Scaling:
    """Staging, while the number of its pods changes.

    Attributes
    ----------
    seen : set of (str, str)
        What Argo CD's UI showed since the beginning: whether synced, and health.
    """

    def __init__(self, system: System):
        self.seen: set[tuple[str, str]] = set()
        self._system = system
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()

    def end(self) -> None:
        """Look no longer."""
        self._over.set()
        self._thread.join()

    def wait_for(self, wanted: int, seconds: float) -> None:
        """Wait until as many pods serve as are wanted."""
        deadline = time.monotonic() + seconds
        while self.replicas() != wanted or len(self._system.pods[STAGING].serving()) != wanted:
            assert time.monotonic() < deadline, (
                f"{self.replicas()} replicas, not {wanted}, after {seconds:g} s: "
                f"{self._system.kubernetes.get('hpa', _NAME, namespace(STAGING))['status']}"
            )
            time.sleep(0.5)

    def replicas(self) -> int:
        """Return how many pods the Deployment is to have."""
        deployment = self._system.kubernetes.get("deployment", _NAME, namespace(STAGING))
        return int(deployment["spec"]["replicas"])

    @contextmanager
    def load(self) -> Iterator[None]:
        """Call staging as often as one client can."""
        kubernetes, where = self._system.kubernetes, f"forest-clients-{STAGING}"
        caller = kubernetes.get("pod", "caller", where)["spec"]["containers"][0]["image"]
        documents = yaml.safe_load_all(pod(STAGING, caller, name="load", options=("--rate=900",)))
        kubernetes.apply(*documents)
        try:
            yield
        finally:
            kubernetes.run("delete", "pod", "load", f"--namespace={where}", "--wait=true")

    def _look(self) -> None:
        while not self._over.wait(0.5):
            self.seen.add(self._system.argocd.state(application(STAGING)))
