"""The server next to what else a forest could be served with: all have the same forest, and take turns.

Every server stands on one core and the load on another, and each round goes through all of them, so that a
noisy moment of the machine hits all alike. A ratio is taken within each round; its median is told, and its
span.
"""

import json
import os
import platform
import statistics
import sys
import tempfile
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any

from benchmarks import bars, forest, load, subjects
from benchmarks.environments import AbsentError
from benchmarks.subjects import (
    BATCHES,
    FASTAPI,
    MESSAGES,
    MLSERVER,
    MLSERVER_HTTP,
    PREDICT,
    Measured,
    batch,
    echo,
    in_process,
    stream,
)


@dataclass(frozen=True, slots=True)
class Results:
    """What was measured: rows a call and runs by name, and why something was not."""

    rows: dict[str, int]
    runs: dict[str, list[load.Run]]
    absent: dict[str, str]

    def rates(self, name: str) -> list[float]:
        """Return rows a second of each round."""
        return [run.rate * self.rows[name] for run in self.runs[name]]

    def ratio(self, name: str, other: str) -> list[float]:
        """Return how many times the other's rows a second it does, of each round, ascending."""
        return sorted(a / b for a, b in zip(self.rates(name), self.rates(other), strict=True))


def measure(rounds: int) -> Results:
    """Measure everything that is here, round by round."""
    models = forest.models()
    trained = forest.train(subjects.bundle_folder(models))
    absent: dict[str, str] = {}
    measured: list[Measured] = []
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        pickle = Path(folder) / "forest.joblib"
        trained.pickle(pickle)
        contexts: Mapping[str, Callable[[], Any]] = {
            **{echo(threads): partial(subjects.run_echo, threads, models) for threads in (1, 2, 4)},
            "forest-serve": partial(subjects.run_server, models, trained),
            FASTAPI: partial(subjects.run_fastapi, models, pickle),
            "MLServer": partial(subjects.run_mlserver, models, pickle),
            "ONNX Runtime": partial(subjects.run_onnxruntime, models, trained, Path(folder)),
        }
        for name, context in contexts.items():
            try:
                measured += stack.enter_context(context())
            except AbsentError as error:
                absent[name] = str(error)
                print(f"{name} is left out: {error}", file=sys.stderr)
        runs: dict[str, list[load.Run]] = {each.name: [] for each in measured}
        for number in range(rounds):
            for each in measured:
                runs[each.name].append(each.measure())
            print(f"peers: round {number + 1} of {rounds} done", file=sys.stderr)
    return Results({each.name: each.rows for each in measured}, runs, absent)


@dataclass(frozen=True, slots=True)
class Comparison:
    """What is compared with what, and what the ratio should be at least."""

    name: str
    other: str
    least: float | None = None


COMPARISONS = (
    Comparison(PREDICT, echo(1), 0.65),
    Comparison(PREDICT, echo(2), 0.65),
    Comparison(PREDICT, echo(4), 0.65),
    Comparison(PREDICT, FASTAPI, 50),
    Comparison(PREDICT, MLSERVER, 15),
    Comparison(PREDICT, MLSERVER_HTTP, 15),
    *(Comparison(batch(count), in_process(count), 0.9 if count == 1024 else None) for count in BATCHES),
    *(Comparison(stream(count), PREDICT, {1: 1.8, 64: 10}[count]) for count in MESSAGES),
)


def ratios(results: Results) -> str:
    """Return the comparisons as a Markdown table."""
    lines = [
        "| rows a second of | to those of | ratio | lowest to highest | should be at least | is |",
        "|---|---|---:|---:|---:|---|",
    ]
    for each in COMPARISONS:
        if each.name not in results.runs or each.other not in results.runs:
            continue
        ratio = results.ratio(each.name, each.other)
        median = statistics.median(ratio)
        least, reached = "", ""
        if each.least is not None:
            least, reached = f"{each.least:g}", "yes" if median >= each.least else "no"
        lines.append(
            f"| {each.name} | {each.other} | {_figure(median)} | {_figure(ratio[0])} to {_figure(ratio[-1])} "
            f"| {least} | {reached} |"
        )
    return "\n".join(lines) + "\n"


def _figure(ratio: float) -> str:
    return f"{ratio:.2f}" if ratio < 10 else f"{ratio:,.0f}"


def table(results: Results) -> str:
    """Return the medians as a Markdown table, and what was left out."""
    lines = [
        "| | rows a call | calls/s | lowest to highest | rows/s | mean ms | p99 ms | worst ms |",
        "|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for name, runs in results.runs.items():
        rates = [run.rate for run in runs]
        lines.append(
            f"| {name} | {results.rows[name]} | {_rate(statistics.median(rates))} "
            f"| {_rate(min(rates))} to {_rate(max(rates))} | {_rate(statistics.median(results.rates(name)))} "
            f"| {_time(statistics.median(run.mean for run in runs))} "
            f"| {_time(statistics.median(run.p99 for run in runs))} "
            f"| {_time(max(run.worst for run in runs))} |"
        )
    lines += [f"\nLeft out: {name}, because {reason}." for name, reason in results.absent.items()]
    return "\n".join(lines) + "\n"


def _rate(rate: float) -> str:
    return f"{rate:,.0f}" if rate >= 100 else f"{rate:.1f}"


def _time(milliseconds: float) -> str:
    return f"{milliseconds:,.0f}" if milliseconds >= 100 else f"{milliseconds:.3g}"


def run(rounds: int, results: Path) -> None:
    """Measure; write ``peers.md``, ``peers.json`` and plots, and print the tables."""
    before = os.getloadavg()
    measured = measure(rounds)
    text = ratios(measured) + "\n" + table(measured)
    (results / "peers.md").write_text(text)
    document = {
        "machine": {
            "processor": platform.processor() or platform.machine(),
            "cores": os.cpu_count(),
            "load before": round(before[0], 2),
            "python": platform.python_version(),
        },
        "versions": {name: metadata.version(name) for name in ("grpcio", "onnxruntime", "scikit-learn")},
        "rows a call": measured.rows,
        "runs": {name: [asdict(run) for run in runs] for name, runs in measured.runs.items()},
        "left out": measured.absent,
    }
    (results / "peers.json").write_text(json.dumps(document, indent=1) + "\n")
    many = {make(count) for make in (batch, stream, in_process) for count in BATCHES}
    for name, these in (("peers", measured.rows.keys() - many), ("batches", many | {PREDICT})):
        rates = {each: measured.rates(each) for each in measured.rows if each in these}
        bars.draw(rates, results / f"{name}.png", "rows a second on one core")
    print(text)
