"""A commit that changes what production's pods log, and nothing else."""

import json
import time
from dataclasses import dataclass
from datetime import datetime

from gitops.layout import PROD
from tests.cluster.clone import MODEL
from tests.cluster.kubernetes import Object
from tests.cluster.system import System, application, namespace

CONFIG = f"{MODEL}-forest-log-level"
_PATCH = """\
patches:
  - target: {kind: ConfigMap, name: forest-log-level}
    patch: |-
      - {op: replace, path: /data/level, value: debug}
"""


@dataclass(frozen=True, slots=True)
class Level:
    """The change of the level.

    Attributes
    ----------
    replica_set : (str, str)
        What served before: name and UID.
    pods : dict
        How often each pod's container had been started anew before, by the pod's name.
    synced : float
        When Argo CD had applied the commit, in Unix seconds.
    """

    system: System
    replica_set: tuple[str, str]
    pods: dict[str, int]
    synced: float

    def records(self) -> dict[str, list[Object]]:
        """Return what each pod has logged, without its debug records."""
        return {
            pod: [
                record
                for record in map(
                    json.loads,
                    self.system.kubernetes.run("logs", pod, f"--namespace={namespace(PROD)}").splitlines(),
                )
                if record["level"] != "debug"
            ]
            for pod in self.pods
        }

    def reached(self) -> dict[str, float]:
        """Return the pods that log at the new level, and how many seconds after the sync they began."""
        return {
            pod: datetime.fromisoformat(record["time"]).timestamp() - self.synced
            for pod, records in self.records().items()
            for record in records
            if record["message"] == "the log level is debug; it was info"
        }

    def now(self) -> dict[str, int]:
        """Return the pods that there are, and how often each one's container was started anew."""
        return _pods(self.system)


def change(system: System) -> Level:
    """Commit the level ``debug``, press Sync, and return when Argo CD has applied it."""
    replica_set, pods = system.replica_set(PROD), _pods(system)
    overlay = system.clone.folder / "kustomize" / "overlays" / PROD / MODEL / "kustomization.yaml"
    overlay.write_text(overlay.read_text() + _PATCH)
    commit = system.clone.commit("Have production tell of every call")
    system.noticed(PROD, commit)
    system.argocd.sync(application(PROD))
    system.synced(PROD, commit)
    return Level(system, replica_set, pods, time.time())


def _pods(system: System) -> dict[str, int]:
    found: list[Object] = system.kubernetes.find(
        "pods", namespace(PROD), f"app.kubernetes.io/instance={MODEL}"
    )
    return {
        pod["metadata"]["name"]: pod["status"]["containerStatuses"][0]["restartCount"]
        for pod in found
        if not pod["metadata"].get("deletionTimestamp")
    }
