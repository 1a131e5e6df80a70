"""The unary path: the server, and what was tried for it, next to a bare grpcio echo.

All servers stand on one core and the load on another; they take turns, round by round, so that a noisy
moment of the machine hits all alike. A server's figure is the median of its rounds.
"""

import json
import statistics
import sys
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from forest.v1.prediction_service_pb2 import PredictResponse

from benchmarks import bars, load, rows, serving
from benchmarks.candidates import PATH
from model_bundle.golden import GoldenRow

_TOLERANCE = 1e-6


@dataclass(frozen=True, slots=True)
class Subject:
    """What is measured: its name in the table, its command, its request's model and whether it is by name."""

    name: str
    command: tuple[str, ...]
    by_name: bool = False
    model: str = "fraud"


_CANDIDATE = ("-m", "benchmarks.candidates")
SERVER = ("-m", "server", "--health-port", "0", "--metrics-port", "0")
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


def measure(models: Path, rounds: int) -> dict[str, list[load.Run]]:
    """Measure every subject so many times; return its runs by its name."""
    folders = {name: max((models / name).glob("[!.]*")) for name in {each.model for each in SUBJECTS}}
    running: list[serving.Subject] = []
    runs: dict[str, list[load.Run]] = {subject.name: [] for subject in SUBJECTS}
    with ExitStack() as stack:
        for subject in SUBJECTS:
            folder = folders[subject.model]
            request = rows.request(folder, subject.by_name).SerializeToString()
            command = serving.python(*subject.command, "--models", str(models), "--port", "{port}")
            process = stack.enter_context(serving.Process(command))
            answer = process.ready(partial(serving.ask_grpc, process.target, PATH, request))
            if "echo" not in subject.name:
                _check(subject.name, answer, rows.usual(folder)[1])
            running.append(serving.grpc_subject(subject.name, process.target, PATH, [request]))
        for number in range(rounds):
            for each in running:
                runs[each.name].append(each.measure())
            print(f"round {number + 1} of {rounds} done", file=sys.stderr)
    return runs


def _check(name: str, answer: bytes, row: GoldenRow) -> None:
    probability = PredictResponse.FromString(answer).classification.probability
    if abs(probability - float(row.outcome["probability"])) > _TOLERANCE:
        raise load.WrongAnswerError(f"{name}: {probability}, not {row.outcome}")


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


def run(models: Path, results: Path, rounds: int) -> None:
    """Measure; write ``unary.md``, ``unary.json`` and ``unary.png``, and print the table."""
    runs = measure(models, rounds)
    text = table(runs)
    (results / "unary.md").write_text(text)
    (results / "unary.json").write_text(
        json.dumps({name: [each.rate for each in values] for name, values in runs.items()}, indent=1) + "\n"
    )
    unit = f"calls a second on one core, {load.CONNECTIONS} connections with {load.STREAMS} calls each"
    bars.draw({name: [run.rate for run in each] for name, each in runs.items()}, results / "unary.png", unit)
    print(text)
