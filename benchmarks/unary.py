"""The unary path: the server, and what was tried for it, next to a bare grpcio echo.

All servers stand on one core and the load on another; they take turns, round by round, so that a noisy
moment of the machine hits all alike. A server's figure is the median of its rounds.
"""

import json
import socket
import statistics
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
from forest.v1.prediction_service_pb2 import PredictResponse

from benchmarks import cores, load, rows
from benchmarks.candidates import PATH
from model_bundle.golden import GoldenRow

_SECONDS = 2.0
_TOLERANCE = 1e-6
_WARM_UP_CALLS = 2_000


@dataclass(frozen=True, slots=True)
class Subject:
    """What is measured: its name in the table, its command, its request's model and whether it is by name."""

    name: str
    command: tuple[str, ...]
    by_name: bool = False
    model: str = "fraud"


_CANDIDATE = ("-m", "benchmarks.candidates")
SERVER = ("-m", "server", "--health-port", "0")
SUBJECTS = (
    Subject("grpcio echo, 1 thread", (*_CANDIDATE, "echo", "threads", "1")),
    Subject("grpcio echo, 2 threads", (*_CANDIDATE, "echo", "threads", "2")),
    Subject("grpcio echo, 4 threads", (*_CANDIDATE, "echo", "threads", "4")),
    Subject("grpcio echo, asyncio", (*_CANDIDATE, "echo", "asyncio", "1")),
    Subject("naive predict, 1 thread", (*_CANDIDATE, "naive", "threads", "1")),
    Subject("naive predict, 4 threads", (*_CANDIDATE, "naive", "threads", "4")),
    Subject("core, 1 thread", (*_CANDIDATE, "core", "threads", "1")),
    Subject("core, 4 threads", (*_CANDIDATE, "core", "threads", "4")),
    Subject("core, asyncio", (*_CANDIDATE, "core", "asyncio", "1")),
    Subject("core, queue, one by one", (*_CANDIDATE, "core", "queue", "1")),
    Subject("core, queue, bursts", (*_CANDIDATE, "core", "queue", "64")),
    Subject("raw bytes, queue, bursts", (*_CANDIDATE, "raw", "queue", "64")),
    Subject("echo, queue, bursts", (*_CANDIDATE, "echo", "queue", "64")),
    Subject("forest-serve", SERVER),
    Subject("forest-serve, by name", SERVER, by_name=True),
    Subject("forest-serve, 19 mixed by name", SERVER, by_name=True, model="churn"),
)
ECHO = SUBJECTS[0]


class _Running:
    """A subject's process, with its request and the response that it must give."""

    def __init__(self, subject: Subject, models: Path, request: bytes):
        with socket.socket() as free:
            free.bind(("localhost", 0))
            port = free.getsockname()[1]
        self.subject = subject
        self.target = f"localhost:{port}"
        self._request = request
        command = [sys.executable, *subject.command, "--models", str(models), "--port", str(port)]
        self._process = subprocess.Popen(cores.pinned(cores.SERVER, command), stderr=subprocess.DEVNULL)
        self._channel = grpc.insecure_channel(self.target)
        self._response = self._ask()
        self._calls = int(self._measure(_WARM_UP_CALLS).rate * _SECONDS)

    def measure(self) -> load.Run:
        run = self._measure(self._calls)
        if self._ask() != self._response:
            raise load.WrongAnswerError(f"{self.subject.name}: the answer has changed")
        return run

    def stop(self) -> None:
        self._channel.close()
        self._process.kill()
        self._process.wait()

    def _measure(self, calls: int) -> load.Run:
        return load.run(self.target, PATH, self._request, self._response, calls)

    def _ask(self) -> bytes:
        call: Any = self._channel.unary_unary(PATH)
        answer: bytes = call(self._request, wait_for_ready=True, timeout=30)
        return answer


def measure(models: Path, rounds: int) -> dict[str, list[load.Run]]:
    """Measure every subject so many times; return its runs by its name."""
    folders = {name: max((models / name).glob("[!.]*")) for name in {each.model for each in SUBJECTS}}
    running: list[_Running] = []
    runs: dict[str, list[load.Run]] = {subject.name: [] for subject in SUBJECTS}
    try:
        for subject in SUBJECTS:
            folder = folders[subject.model]
            running.append(
                _Running(subject, models, rows.request(folder, subject.by_name).SerializeToString())
            )
            if "echo" not in subject.name:
                _check(running[-1], rows.usual(folder)[1])
        for number in range(rounds):
            for each in running:
                runs[each.subject.name].append(each.measure())
            print(f"round {number + 1} of {rounds} done", file=sys.stderr)
    finally:
        for each in running:
            each.stop()
    return runs


def _check(running: _Running, row: GoldenRow) -> None:
    probability = PredictResponse.FromString(running._response).classification.probability
    if abs(probability - float(row.outcome["probability"])) > _TOLERANCE:
        raise load.WrongAnswerError(f"{running.subject.name}: {probability}, not {row.outcome}")


def table(runs: dict[str, list[load.Run]]) -> str:
    """Return the medians as a Markdown table, each next to the bare echo on one thread and on four."""
    rates = {name: statistics.median(run.rate for run in each) for name, each in runs.items()}
    lines = [
        "| server | calls/s | lowest to highest | / echo, 1 thread | / echo, 4 threads | mean ms | worst |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for name, each in runs.items():
        lowest, highest = min(run.rate for run in each), max(run.rate for run in each)
        lines.append(
            f"| {name} | {rates[name]:,.0f} | {lowest:,.0f} to {highest:,.0f} "
            f"| {rates[name] / rates[ECHO.name]:.2f} | {rates[name] / rates['grpcio echo, 4 threads']:.2f} "
            f"| {statistics.median(run.mean for run in each):.2f} | {max(run.worst for run in each):.1f} |"
        )
    return "\n".join(lines) + "\n"


def plot(runs: dict[str, list[load.Run]], path: Path) -> None:
    """Draw the medians as bars, with each round as a dot."""
    import matplotlib as mpl  # noqa: PLC0415

    mpl.use("agg")
    from matplotlib import pyplot  # noqa: PLC0415

    figure, axes = pyplot.subplots(figsize=(9, 0.36 * len(runs) + 1.2), layout="constrained")
    for place, (name, each) in enumerate(runs.items()):
        rates = [run.rate for run in each]
        median = statistics.median(rates)
        color = "#1b6e4b" if name.startswith("forest") else "#b9c4be" if "echo" in name else "#7fa893"
        axes.barh(place, median, color=color, height=0.7)
        axes.plot(rates, [place] * len(rates), "o", color="black", markersize=2.5, alpha=0.6)
        axes.text(max(rates) + 150, place, f"{median:,.0f}", va="center", fontsize=9)
    axes.set_yticks(range(len(runs)), list(runs), fontsize=9)
    axes.invert_yaxis()
    axes.set_xlabel(
        f"calls a second on one core, {load.CONNECTIONS} connections with {load.STREAMS} calls each"
    )
    axes.set_xlim(right=axes.get_xlim()[1] * 1.08)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=110)


def run(models: Path, results: Path, rounds: int) -> None:
    """Measure; write ``unary.md``, ``unary.json`` and ``unary.png``, and print the table."""
    runs = measure(models, rounds)
    text = table(runs)
    (results / "unary.md").write_text(text)
    (results / "unary.json").write_text(
        json.dumps({name: [each.rate for each in values] for name, values in runs.items()}, indent=1) + "\n"
    )
    plot(runs, results / "unary.png")
    print(text)
