"""How long the slowest hundredth of calls takes at half the top rate: the server, and the bare echo.

Each is asked at half of its own top rate, which is measured first. The calls come evenly, whether they are
answered in time or not.
"""

import json
import statistics
import sys
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path

from benchmarks import forest, load, subjects
from benchmarks.subjects import PREDICT, echo

# Short rounds, and twice as many: a tail shows every moment that the machine was busy with something else.
_SECONDS = 1.5
_ROUNDS = 2
_ROUNDS_FOR_TOP = 3
_AIM = 1.5


def measure(rounds: int) -> tuple[dict[str, float], dict[str, list[load.Run]]]:
    """Return at how many calls a second each was asked, and its runs, by its name."""
    models = forest.models()
    with ExitStack() as stack:
        contexts = [*(subjects.run_echo(threads, models) for threads in (1, 4)), subjects.run_server(models)]
        asked = [subject for context in contexts for subject in stack.enter_context(context)]
        tops: dict[str, list[float]] = {subject.name: [] for subject in asked}
        for _ in range(_ROUNDS_FOR_TOP):
            for subject in asked:
                tops[subject.name].append(subject.measure().rate)
        halves = {name: statistics.median(rates) / 2 for name, rates in tops.items()}
        runs: dict[str, list[load.Run]] = {subject.name: [] for subject in asked}
        for number in range(_ROUNDS * rounds):
            for subject in asked:
                runs[subject.name].append(load.run_at(subject.call, halves[subject.name], _SECONDS))
                subject.check()
            print(f"tail: round {number + 1} of {_ROUNDS * rounds} done", file=sys.stderr)
    return halves, runs


def table(halves: dict[str, float], runs: dict[str, list[load.Run]]) -> str:
    """Return the medians as a Markdown table, and the ratio to each echo."""
    lines = [
        "| | calls/s | mean ms | p99 ms | lowest to highest | worst ms |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for name, each in runs.items():
        tails = [run.p99 for run in each]
        lines.append(
            f"| {name} | {halves[name]:,.0f} | {statistics.median(run.mean for run in each):.2f} "
            f"| {statistics.median(tails):.2f} | {min(tails):.2f} to {max(tails):.2f} "
            f"| {max(run.worst for run in each):.1f} |"
        )
    lines.append("")
    for other in (echo(1), echo(4)):
        pairs = zip(runs[PREDICT], runs[other], strict=True)
        ratios = sorted(ours.p99 / theirs.p99 for ours, theirs in pairs)
        median = statistics.median(ratios)
        lines.append(
            f"p99 of {PREDICT} to that of {other}: {median:.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f}). "
            f"It should be {_AIM} at most: {'it is' if median <= _AIM else 'it is not'}."
        )
    return "\n".join(lines) + "\n"


def run(rounds: int, results: Path) -> None:
    """Measure; write ``tail.md`` and ``tail.json``, and print the table."""
    halves, runs = measure(rounds)
    text = table(halves, runs)
    (results / "tail.md").write_text(text)
    document = {
        name: {"calls a second": halves[name], "runs": [asdict(run) for run in each]}
        for name, each in runs.items()
    }
    (results / "tail.json").write_text(json.dumps(document, indent=1) + "\n")
    print(text)
