"""The audit log of production, as a pod there sees it."""

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from gitops.layout import PROD
from tests.cluster.clone import MODEL
from tests.cluster.system import System, namespace

FOLDER = f"/audit/{MODEL}"
_LOOK = """
import json, os, pathlib, sys
files = {}
for path in pathlib.Path(sys.argv[1]).iterdir():
    found = path.stat()
    files[path.name] = [found.st_uid, found.st_gid, found.st_mode & 0o7777]
root = bool(os.statvfs("/").f_flag & os.ST_RDONLY)
print(json.dumps({"user": [os.getuid(), os.getgid()], "read_only": root, "files": files}))
"""
_RECORDS = """
import orjson, pathlib, sys
for path in pathlib.Path(sys.argv[1]).glob("*.jsonl*"):
    for line in path.open("rb"):
        record = orjson.loads(line)
        if record["time"] >= sys.argv[2]:
            print(record["request_id"], record["version"], record["digest"])
"""


@dataclass(frozen=True, slots=True)
class Audit:
    """Asks the first pod that serves."""

    system: System

    def look(self) -> dict[str, Any]:
        """Return who a pod is, whether its root is read-only, and the files: user, group, mode."""
        found: dict[str, Any] = json.loads(self._python("-c", _LOOK, FOLDER))
        return found

    def verify(self) -> str:
        """Return what ``forest-audit verify`` says; it must find no fault."""
        return self._python("-m", "server.audit", "verify", FOLDER).strip()

    def decided(self, since: float) -> list[tuple[str, str, str]]:
        """Return request id, version and digest of each record from a time on, in Unix seconds.

        Those of open files are among them.
        """
        begin = datetime.fromtimestamp(since, UTC).isoformat()
        records = (line.split(" ") for line in self._python("-c", _RECORDS, FOLDER, begin).splitlines())
        return [(request, version, digest) for request, version, digest in records]

    def _python(self, *arguments: str) -> str:
        pod = self.system.pods[PROD].serving()[0].name
        return self.system.kubernetes.run(
            "exec", f"--namespace={namespace(PROD)}", pod, "--", "python3", *arguments
        )
