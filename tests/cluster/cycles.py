"""What a run against a cluster writes down, for the report to be made from: a JSON file and callers' logs.

{"machine": "2 cores, Kubernetes 1.34.4, Argo CD 3.2.11",
 "callers": {"prod": {"log": "prod.log", "release": {"version": "1.0.0", "digest": "sha256:..."}}},
 "cycles": [{"kind": "promotion", "environment": "prod",
             "release": {"version": "1.1.0", "digest": "sha256:..."},
             "pushed": 1760000000.0, "noticed": 1760000000.4, "synced": 1760000001.9,
             "first_ready": 1760000004.2, "served": 1760000011.8, "gone": 1760000049.5}]}
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tests.cluster.accounting import Account, Change, Log, Release, Said, account, read_log, said


@dataclass(frozen=True, slots=True)
class Cycle:
    """A commit that changed what runs, and how it came to be served.

    Attributes
    ----------
    kind : str
        What was done, as ``promotion`` or ``rollback``.
    environment : str
        Where, as ``prod``.
    release : Release
        What the commit says.
    pushed : float
        When the commit reached the branch. All times are in Unix seconds.
    noticed : float or None
        When Argo CD had it. This and what follows is None if it never came to be, as with a release that does
        not start.
    synced : float or None
        When Argo CD's operation had finished.
    first_ready : float or None
        When the first pod of the release was ready.
    served : float or None
        When every pod that is to be was ready and of the release.
    gone : float or None
        When the last pod of another release was gone.
    """

    kind: str
    environment: str
    release: Release
    pushed: float
    noticed: float | None = None
    synced: float | None = None
    first_ready: float | None = None
    served: float | None = None
    gone: float | None = None


@dataclass(frozen=True, slots=True)
class Caller:
    """A caller without retries that called an environment throughout.

    Attributes
    ----------
    log : str
        The file with what it wrote, as the JSON file's folder has it.
    release : Release
        What ran when it began.
    """

    log: str
    release: Release


@dataclass(frozen=True, slots=True)
class Run:
    """What was done in a run, and who called.

    Attributes
    ----------
    machine : str
        Where, in words: cores, versions.
    callers : dict of str to Caller
        By environment.
    cycles : list of Cycle
        In the order of their pushes.
    """

    machine: str
    callers: dict[str, Caller]
    cycles: list[Cycle]

    def write(self, path: Path) -> None:
        """Write it as a JSON file. The callers' logs are written beside it by whoever has them."""
        path.write_text(json.dumps(asdict(self), indent=1) + "\n")

    @classmethod
    def read(cls, path: Path) -> "Run":
        """Read what ``write`` has written."""
        document = json.loads(path.read_bytes())
        callers = {name: Caller(**_with_release(each)) for name, each in document["callers"].items()}
        return cls(
            document["machine"], callers, [Cycle(**_with_release(each)) for each in document["cycles"]]
        )

    def log(self, environment: str, folder: Path) -> Log:
        """Read the log of an environment's caller, from the folder of the JSON file."""
        with (folder / self.callers[environment].log).open() as lines:
            return read_log(lines)

    def said(self, environment: str) -> list[Said]:
        """Return when which release was right in an environment."""
        changes = [
            Change(cycle.release, cycle.pushed, cycle.gone)
            for cycle in self.cycles
            if cycle.environment == environment
        ]
        return said(self.callers[environment].release, changes)

    def accounts(self, folder: Path) -> dict[str, Account]:
        """Return what became of each caller's calls, by environment."""
        return {name: account(self.log(name, folder), self.said(name)) for name in self.callers}


def _with_release(document: dict[str, Any]) -> dict[str, Any]:
    return document | {"release": Release(**document["release"])}
