"""Two workers on two cores, next to one on one core.

The load shares the cores with the workers, for there are no others: one worker has a core to itself, and two
have two cores less what the load takes. So processor time is told as well, which the load does not touch.
They take turns, round by round, so that a noisy moment of the machine hits both.
"""

import os
import socket
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc

from benchmarks import cores, load, rows
from benchmarks.candidates import PATH

_SECONDS = 2.0
_WARM_UP_CALLS = 4_000
# The kernel deals connections out by chance: of few, one worker may get most.
_CONNECTIONS, _STREAMS = 64, 1
_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class _Measured:
    """Calls a second, and the server's processor time a call in seconds."""

    rate: float
    cost: float


class _Running:
    """A server of so many workers."""

    def __init__(self, workers: int, models: Path, request: bytes):
        with socket.socket() as free:
            free.bind(("localhost", 0))
            port = free.getsockname()[1]
        self._target = f"localhost:{port}"
        self._core: int | str = cores.LOAD if workers == 1 else cores.BOTH
        self._request = request
        command = [sys.executable, "-m", "server", "--models", str(models), "--port", str(port)]
        command += ["--health-port", "0", "--metrics-port", "0", "--workers", str(workers)]
        command += ["--max-connection-age", "600"]
        own = cores.SERVER if workers == 1 else cores.BOTH
        self._process = subprocess.Popen(
            cores.pinned(own, [*command, "--drain-timeout", "700"]), stderr=subprocess.DEVNULL
        )
        with grpc.insecure_channel(self._target) as channel:
            call: Any = channel.unary_unary(PATH)
            self._response: bytes = call(request, wait_for_ready=True, timeout=30)
        while len(self._tree()) < (1 if workers == 1 else 1 + workers):
            time.sleep(0.05)
        # The last one loads.
        time.sleep(1.0)
        self._calls = int(self._measure(_WARM_UP_CALLS).rate * _SECONDS)

    def measure(self) -> _Measured:
        return self._measure(self._calls)

    def stop(self) -> None:
        # The supervisor's end is its workers'.
        for process in reversed(self._tree()):
            os.kill(process, 9)
        self._process.wait()

    def _measure(self, calls: int) -> _Measured:
        before = self._time()
        sent = load.framed([self._request])
        call = load.Call(f"http://{self._target}{PATH}", sent, 5 + len(self._response))
        run = load.run(call, calls, _CONNECTIONS, _STREAMS, self._core)
        return _Measured(run.rate, (self._time() - before) / calls)

    def _tree(self) -> list[int]:
        own = self._process.pid
        children = Path(f"/proc/{own}/task/{own}/children").read_text().split()
        return [own, *map(int, children)]

    def _time(self) -> float:
        """Return the processor time that the server has taken, in seconds."""
        spent = 0
        for process in self._tree():
            columns = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
            spent += int(columns[11]) + int(columns[12])
        return spent / _TICKS


def run(models: Path, results: Path, rounds: int) -> None:
    """Measure; write ``workers.md``, and print the table."""
    request = rows.request(max((models / "fraud").glob("[!.]*")), by_name=False).SerializeToString()
    running: dict[int, _Running] = {}
    measured: dict[int, list[_Measured]] = {1: [], 2: []}
    try:
        for workers in measured:
            running[workers] = _Running(workers, models, request)
        for _ in range(rounds):
            for workers, each in running.items():
                measured[workers].append(each.measure())
    finally:
        for each in running.values():
            each.stop()
    rates = {workers: statistics.median(each.rate for each in every) for workers, every in measured.items()}
    costs = {workers: statistics.median(each.cost for each in every) for workers, every in measured.items()}
    lines = [
        "| workers | calls/s | lowest to highest | / one worker | processor time a call | / one worker |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for workers, every in measured.items():
        lowest, highest = min(each.rate for each in every), max(each.rate for each in every)
        lines.append(
            f"| {workers}, on {workers} {'core' if workers == 1 else 'cores'} | {rates[workers]:,.0f} "
            f"| {lowest:,.0f} to {highest:,.0f} | {rates[workers] / rates[1]:.2f} "
            f"| {costs[workers] * 1e6:.1f} µs | {costs[workers] / costs[1]:.2f} |"
        )
    text = "\n".join(lines) + "\n"
    (results / "workers.md").write_text(text)
    print(text)
