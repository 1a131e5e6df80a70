"""`python -m benchmarks [NAME ...]`: measure, and write tables and plots into benchmarks/results."""

import argparse
import sys
from pathlib import Path

from benchmarks import names, start, unary, workers

_MEASUREMENTS = {"unary": unary.run, "start": start.run, "names": names.run, "workers": workers.run}


def main() -> int:
    """Run the named measurements, or all."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help=f"of {', '.join(_MEASUREMENTS)}; default: all"
    )
    parser.add_argument(
        "--models", type=Path, default=Path("models"), help="folder with bundles of fraud and churn"
    )
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    if unknown := set(arguments.names) - set(_MEASUREMENTS):
        parser.error(f"no measurement {', '.join(sorted(unknown))}")
    for model in ("fraud", "churn"):
        if not any((arguments.models / model).glob("*/manifest.json")):
            parser.error(f"no bundle of {model} in {arguments.models}: make one with forest-export {model}")
    results = Path(__file__).parent / "results"
    results.mkdir(exist_ok=True)
    for name in arguments.names or _MEASUREMENTS:
        _MEASUREMENTS[name](arguments.models, results, arguments.rounds)
    return 0


if __name__ == "__main__":
    sys.exit(main())
