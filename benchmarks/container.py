"""The server held to half a core and 512 MiB, as in a small container."""

import json
import statistics
import sys
from dataclasses import asdict
from pathlib import Path

from benchmarks import forest, limits, load, memory, subjects
from benchmarks.environments import AbsentError
from benchmarks.serving import Process

PROCESSORS = 0.5
MEBIBYTES = 512
# As the image has it.
ENVIRONMENT = ("env", "MALLOC_ARENA_MAX=2")
# Calls a second that are asked for, and ms that the slowest hundredth may take.
RATES = (1_200, 1_500)
_P99 = 100.0
_SECONDS = 4.0
_TOP = "as many as it answers"


def measure(rounds: int) -> tuple[dict[str, list[load.Run]], float]:
    """Return the runs at each rate, and MiB at most.

    The server may run on every core, as in a container. It then spends its share in less than half of each
    tenth of a second, and stands still for the rest.
    """
    models = forest.models()
    runs: dict[str, list[load.Run]] = {_TOP: [], **{f"{rate:,}": [] for rate in RATES}}
    with (
        limits.limited(PROCESSORS, MEBIBYTES) as held,
        Process(subjects.server_command(models), prefix=[*held.prefix, *ENVIRONMENT]) as process,
    ):
        subject = subjects.predict(process, models)
        for number in range(rounds):
            runs[_TOP].append(subject.measure())
            for rate in RATES:
                runs[f"{rate:,}"].append(load.run_at(subject.call, rate, _SECONDS))
                subject.check()
            print(f"container: round {number + 1} of {rounds} done", file=sys.stderr)
        return runs, memory.mebibytes(process.pid, memory.PEAK)


def table(runs: dict[str, list[load.Run]], peak: float) -> str:
    """Return the medians as a Markdown table."""
    lines = [
        "| asked, calls/s | answered/s | mean ms | p99 ms | lowest to highest | worst ms "
        f"| p99 < {_P99:g} ms |",
        "|---|---:|---:|---:|---:|---:|---|",
    ]
    for name, each in runs.items():
        tails = [run.p99 for run in each]
        median = statistics.median(tails)
        lines.append(
            f"| {name} | {statistics.median(run.rate for run in each):,.0f} "
            f"| {statistics.median(run.mean for run in each):.2f} | {median:.2f} "
            f"| {min(tails):.2f} to {max(tails):.2f} | {max(run.worst for run in each):.1f} "
            f"| {'yes' if median < _P99 else 'no'} |"
        )
    return "\n".join(lines) + f"\n\nResident: {peak:.0f} MiB at most, of {MEBIBYTES}.\n"


def run(rounds: int, results: Path) -> None:
    """Measure; write ``container.md`` and ``container.json``, and print the table."""
    try:
        runs, peak = measure(rounds)
    except AbsentError as error:
        print(f"container is left out: {error}")
        return
    text = table(runs, peak)
    (results / "container.md").write_text(text)
    document = {
        "MiB": round(peak),
        "runs": {name: [asdict(run) for run in each] for name, each in runs.items()},
    }
    (results / "container.json").write_text(json.dumps(document, indent=1) + "\n")
    print(text)
