"""What it costs to be observed: Predict with nothing counted, with metrics and drift, and with an audit log.

The servers take turns, round by round. Of those with metrics, each is scraped once in every round, and while
it is under load.
"""

import json
import statistics
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from benchmarks import bars, forest, load, serving, subjects
from benchmarks.candidates import PATH

_UNCOUNTED = "nothing is counted"
_BARE = "no port of metrics"
_METRICS = "metrics, drift"
_AUDITED = "metrics, drift, audit (best-effort)"
_STRICT = "metrics, drift, audit (strict)"
_AIM = 0.9
_SCRAPE_MS = 20.0


class _Watched:
    """A server, and what is watched of it."""

    def __init__(self, stack: ExitStack, models: Path, name: str, settings: Sequence[str]):
        self.name = f"forest-serve, {name}"
        scraped = name not in (_UNCOUNTED, _BARE)
        port = str(serving.free_port()) if scraped else "0"
        self._metrics = f"http://localhost:{port}/metrics" if scraped else ""
        module = "benchmarks.uncounted" if name == _UNCOUNTED else "server"
        command = [*subjects.server_command(models, port, module), *settings]
        process = stack.enter_context(serving.Process(command))
        row = subjects.Row(models)
        process.ready(lambda: serving.ask_grpc(process.target, PATH, row.request))
        self._subject = serving.grpc_subject(self.name, process.target, PATH, [row.request])
        self.runs: list[load.Run] = []
        self.scrapes: list[float] = []

    def measure(self) -> None:
        """Run the load for a while, with one scrape in the midst of it."""
        with self._scraped():
            self.runs.append(self._subject.measure())

    @contextmanager
    def _scraped(self) -> Iterator[None]:
        if not self._metrics:
            yield
            return
        scraping = threading.Timer(serving.SECONDS / 2, self._scrape)
        scraping.start()
        yield
        scraping.join()

    def _scrape(self) -> None:
        begun = time.perf_counter()
        with urllib.request.urlopen(self._metrics, timeout=10) as response:
            response.read()
        self.scrapes.append(1000 * (time.perf_counter() - begun))

    def alone(self) -> float:
        """Return how many ms a scrape takes while nobody calls."""
        times = []
        for _ in range(20):
            self._scrape()
            times.append(self.scrapes.pop())
        return statistics.median(times)


def run(rounds: int, results: Path) -> None:
    """Measure; write ``observation.md``, ``.json`` and ``.png``, and print the table."""
    models = forest.models()
    with ExitStack() as stack:
        folders = [stack.enter_context(tempfile.TemporaryDirectory()) for _ in range(2)]
        watched = [
            _Watched(stack, models, name, settings)
            for name, settings in (
                (_UNCOUNTED, ()),
                (_BARE, ()),
                (_METRICS, ()),
                (_AUDITED, ("--audit", "best-effort", "--audit-folder", folders[0])),
                (_STRICT, ("--audit", "strict", "--audit-folder", folders[1])),
            )
        ]
        for number in range(rounds):
            for each in watched:
                each.measure()
            print(f"observation: round {number + 1} of {rounds} done", file=sys.stderr)
        alone = watched[2].alone()
    text = _table(watched) + (
        f"\nA scrape took {statistics.median(watched[2].scrapes):.1f} ms in the median under full load, and "
        f"{alone:.1f} ms alone; the aim is below {_SCRAPE_MS:g} ms.\n"
    )
    (results / "observation.md").write_text(text)
    rates = {each.name: [run.rate for run in each.runs] for each in watched}
    (results / "observation.json").write_text(json.dumps(rates, indent=1) + "\n")
    bars.draw(rates, results / "observation.png", "calls a second on one core")
    print(text)


def _table(watched: Sequence[_Watched]) -> str:
    lines = [
        "| watched | calls/s | lowest to highest | / nothing counted | p99 ms |",
        "|---|---:|---:|---:|---:|",
    ]
    bare = watched[0].runs
    for each in watched:
        rates = [run.rate for run in each.runs]
        # Round by round, and then the median: a noisy moment hits neighbours alike.
        ratio = statistics.median(run.rate / base.rate for run, base in zip(each.runs, bare, strict=True))
        aim = f" (aim {_AIM})" if each.name.endswith(_AUDITED) else ""
        lines.append(
            f"| {each.name.partition(', ')[2]} | {statistics.median(rates):,.0f} "
            f"| {min(rates):,.0f} to {max(rates):,.0f} | {ratio:.2f}{aim} "
            f"| {statistics.median(run.p99 for run in each.runs):.1f} |"
        )
    return "\n".join(lines) + "\n"
