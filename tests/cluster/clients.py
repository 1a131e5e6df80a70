"""The clients of both environments: one as a bank has it, and one that makes failed calls again."""

import json
import subprocess
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from tests.cluster.accounting import Log, read_log
from tests.cluster.caller.manifest import pod
from tests.cluster.kubernetes import Kubernetes, until

# Calls a second of each.
_RATE = 25
# A deadline that a test machine keeps whose few cores do everything; the report says how long answers took.
_OPTIONS = (f"--rate={_RATE}", "--deadline=3")
_NAMES = {"caller": _OPTIONS, "caller-retries": (*_OPTIONS, "--retries")}
_ASK = """
import json, sys
from forest.v1.prediction_service_pb2 import PredictRequest, Record, Value
from forest.v1.prediction_service_pb2_grpc import PredictionServiceStub
from forest_client import open_channel
names = ["Time", "Amount", *(f"V{number}" for number in range(1, 29))]
record = Record(features={name: Value(number=0) for name in names})
with open_channel(sys.argv[1]) as channel:
    answer = PredictionServiceStub(channel).Predict(PredictRequest(model="fraud", record=record), timeout=5)
print(json.dumps([answer.version, answer.digest]))
"""


@dataclass
class Client:
    """A pod that calls all the while, and a copy of what it writes."""

    kubernetes: Kubernetes
    environment: str
    name: str
    log: Path
    _closed: bool = False
    _process: subprocess.Popen[str] | None = None
    _thread: threading.Thread = field(init=False)

    def __post_init__(self) -> None:
        self._thread = threading.Thread(target=self._copy, daemon=True)
        self._thread.start()

    @property
    def retries(self) -> bool:
        """Whether it makes failed calls again."""
        return self.name == "caller-retries"

    @property
    def namespace(self) -> str:
        """Where it runs."""
        return f"forest-clients-{self.environment}"

    def run(self, script: str, *arguments: str) -> str:
        """Return what a Python script prints, beside the client in its pod."""
        return self.kubernetes.run(
            "exec", f"--namespace={self.namespace}", self.name, "--", "python3", "-c", script, *arguments
        )

    def so_far(self) -> Log:
        """Return its log as it is now; its last line may be half written."""
        text = self.log.read_text()
        return read_log(text[: text.rfind("\n") + 1].splitlines())

    def last(self) -> float:
        """Return when the last call was sent that has a line here."""
        calls = self.so_far().calls
        return calls[-1].sent if calls else 0.0

    def end(self) -> Log:
        """Tell it to end, and return all of its log."""
        self.run("import os, signal; os.kill(1, signal.SIGTERM)")
        until(
            f"{self.name} has ended",
            lambda: (
                self.kubernetes.get("pod", self.name, self.namespace)["status"]["phase"]
                in ("Succeeded", "Failed")
            ),
        )
        self._closed = True
        self._thread.join(20)
        self.log.write_text(self.kubernetes.run("logs", self.name, f"--namespace={self.namespace}"))
        return self.so_far()

    def close(self) -> None:
        """Stop copying."""
        self._closed = True
        if self._process:
            self._process.terminate()
        self._thread.join(10)

    def _copy(self) -> None:
        # The stream ends with the API server, the kubelet or the pod: then it is read from its beginning.
        while not self._closed:
            partial = self.log.with_suffix(".partial")
            with partial.open("w") as copy:
                self._process = subprocess.Popen(
                    self.kubernetes.command("logs", "--follow", self.name, f"--namespace={self.namespace}"),
                    env=self.kubernetes.environment, stdout=copy, stderr=subprocess.DEVNULL,
                )  # fmt: skip
                # What was there before is there again within a moment.
                time.sleep(1)
                partial.rename(self.log)
                self._process.wait()


def start(kubernetes: Kubernetes, image: str, environments: tuple[str, ...], folder: Path) -> list[Client]:
    """Start two clients for each environment, and return when they have their first answers."""
    clients = []
    for environment in environments:
        kubernetes.run(
            "delete", "namespace", f"forest-clients-{environment}", "--ignore-not-found", "--wait=true"
        )
        for name, options in _NAMES.items():
            kubernetes.apply(*yaml.safe_load_all(pod(environment, image, name=name, options=options)))
            where = f"--namespace=forest-clients-{environment}"
            kubernetes.run("wait", "--for=condition=Ready", f"pod/{name}", where, "--timeout=60s")
            clients.append(Client(kubernetes, environment, name, folder / f"{environment}-{name}.log"))
    for client in clients:
        until(f"{client.log.stem} is answered", lambda client=client: _answered(client))
    return clients


def ask(client: Client, target: str) -> tuple[str, str]:
    """Return the version and the bundle's digest that answer a call from a client's pod."""
    version, digest = json.loads(client.run(_ASK, target))
    return version, digest


def _answered(client: Client) -> bool:
    return client.log.exists() and any(call.answered for call in client.so_far().calls)
