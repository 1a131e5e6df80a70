"""`python -m benchmarks [NAME ...]`: measure, and write tables and plots into benchmarks/results."""

import argparse
import sys
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from benchmarks import comparison, container, names, observation, soak, stall, start, tail, unary, workers
from benchmarks.soak import GrowthError

# What takes long and tells little of the server as it is: measured only if it is named.
_BY_NAME_ONLY = ("unary", "soak")


def main() -> int:
    """Run the named measurements, or most of them; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "names",
        nargs="*",
        metavar="NAME",
        help="of peers, tail, container, observation, stall, start, names, workers, unary and soak; default: "
        "all but the last two",
    )
    parser.add_argument(
        "--models",
        type=Path,
        default=Path("models"),
        help="folder with bundles of fraud and churn; peers, tail, container, observation and soak make "
        "their own",
    )
    parser.add_argument("--rounds", type=int, default=5, help="of each measurement; its figures are medians")
    parser.add_argument("--minutes", type=float, default=5.0, help="of the soak")
    arguments = parser.parse_args()
    models: Path = arguments.models
    results = Path(__file__).parent / "results"
    rounds: int = arguments.rounds
    measurements: Mapping[str, Callable[[], None]] = {
        "peers": partial(comparison.run, rounds, results),
        "tail": partial(tail.run, rounds, results),
        "container": partial(container.run, rounds, results),
        "observation": partial(observation.run, rounds, results),
        "stall": partial(stall.run, models, results, rounds),
        "start": partial(start.run, models, results, rounds),
        "names": partial(names.run, models, results, rounds),
        "workers": partial(workers.run, models, results, rounds),
        "unary": partial(unary.run, models, results, rounds),
        "soak": partial(soak.run, arguments.minutes, results),
    }
    chosen = arguments.names or [name for name in measurements if name not in _BY_NAME_ONLY]
    if unknown := set(chosen) - set(measurements):
        parser.error(f"no measurement {', '.join(sorted(unknown))}")
    if {"stall", "start", "names", "workers", "unary"} & set(chosen):
        for model in ("fraud", "churn"):
            if not any((models / model).glob("*/manifest.json")):
                parser.error(f"no bundle of {model} in {models}: make one with forest-export {model}")
    results.mkdir(exist_ok=True)
    for name in chosen:
        print(f"## {name}\n", flush=True)
        begun = time.monotonic()
        try:
            measurements[name]()
        except GrowthError as error:
            print(f"benchmarks: {error}", file=sys.stderr)
            return 1
        print(f"{name}: {time.monotonic() - begun:.0f} s", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
