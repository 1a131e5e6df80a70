"""Load from h2load, which speaks gRPC given a framed body. Every call of a run is checked."""

import re
import shutil
import struct
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from benchmarks import cores

CONNECTIONS = 4
STREAMS = 8
# h2load sends every 10 ms what a connection owes. Many connections, begun one by one, make a steady stream of
# what would be bursts.
_PACED_CONNECTIONS = 100
_TIMEOUT = 300
_GRPC = ("content-type: application/grpc", "te: trailers")


@dataclass(frozen=True, slots=True)
class Run:
    """What one run of load measured: calls a second, and milliseconds of a call."""

    rate: float
    mean: float
    p99: float
    worst: float

    @classmethod
    def of(cls, taken: Sequence[float], rate: float) -> Self:
        """Return the run of calls that took so many milliseconds each."""
        ascending = sorted(taken)
        last_of_99 = -(-len(taken) * 99 // 100) - 1
        return cls(rate, sum(taken) / len(taken), ascending[last_of_99], ascending[-1])


@dataclass(frozen=True, slots=True)
class Call:
    """What is sent again and again, and how many bytes of messages come back for it each time.

    Attributes
    ----------
    url : str
        Where to.
    body : bytes
        As it is sent: of gRPC, with each message framed.
    received : int
        Bytes of the answer's body. A gRPC call that fails carries none.
    headers : sequence of str
        Beside those that h2load sends.
    http1 : bool
        Whether it is HTTP/1.1. There a connection has one call at a time, so there are as many connections as
        there would be calls.
    """

    url: str
    body: bytes
    received: int
    headers: Sequence[str] = _GRPC
    http1: bool = False


class WrongAnswerError(RuntimeError):
    """Some call of a run was not answered as it should be."""


def framed(messages: Sequence[bytes]) -> bytes:
    """Return messages as gRPC sends them: several are those of a stream."""
    return b"".join(struct.pack(">BI", 0, len(message)) + message for message in messages)


def run(
    call: Call,
    calls: int,
    connections: int = CONNECTIONS,
    streams: int = STREAMS,
    core: int | str = cores.LOAD,
) -> Run:
    """Call a server so many times, with so many calls at once on each connection: as fast as it answers.

    h2load counts a call that failed by its gRPC status as done. A failed call carries no message, though, so
    that the bytes received tell whether each call was answered with messages of the right length. Whether
    they are the right messages is asked before and after by a client that reads them.
    """
    if call.http1:
        connections, streams = connections * streams, 1
    # Of fewer calls h2load makes fewer connections than it was told, and of 0 for one of them none ends.
    calls = max(calls, connections)
    return _run(call, calls, ["-c", str(connections), "-m", str(streams)], skipped=0.0, core=core)


def run_at(call: Call, rate: float, seconds: float) -> Run:
    """Call a server so many times a second, whether it keeps up or not, as `run` does otherwise.

    What happens while the connections are being made does not count.
    """
    each = rate / _PACED_CONNECTIONS
    calls = max(round(each * seconds), 1) * _PACED_CONNECTIONS
    options = ["-c", str(_PACED_CONNECTIONS), "-m", str(STREAMS), f"--rps={each:.4f}"]
    # One connection more every millisecond.
    options += ["-r", "1", "--rate-period=1ms"]
    return _run(call, calls, options, skipped=2 * _PACED_CONNECTIONS / 1e3)


def _run(call: Call, calls: int, options: list[str], skipped: float, core: int | str = cores.LOAD) -> Run:
    program = shutil.which("h2load")
    if program is None:
        raise FileNotFoundError("h2load is missing: on Debian, apt-get install nghttp2-client")
    with tempfile.TemporaryDirectory() as folder:
        body, log = Path(folder) / "body", Path(folder) / "log"
        body.write_bytes(call.body)
        command = [program, "-n", str(calls), "-t", "1", "-d", str(body), "--log-file", str(log), *options]
        if call.http1:
            command.append("--h1")
        for header in call.headers:
            command += ["-H", header]
        output = subprocess.run(
            cores.pinned(core, [*command, call.url]),
            check=True,
            capture_output=True,
            text=True,
            timeout=_TIMEOUT,
        ).stdout
        taken = _taken(log.read_text(), skipped)
    succeeded = int(_find(r"(\d+) succeeded", output))
    answered = int(_find(r"status codes: (\d+) 2xx", output))
    received = int(_find(r"traffic: .*\((\d+)\) data", output))
    if succeeded != calls or answered != calls or received != calls * call.received:
        raise WrongAnswerError(
            f"{call.url}: {succeeded} of {calls} calls succeeded, {answered} with an HTTP status of success, "
            f"and {received} bytes of messages came, not {calls * call.received}"
        )
    return Run.of(taken, float(_find(r", ([\d.]+) req/s", output)))


def _taken(log: str, skipped: float) -> list[float]:
    """Return how many milliseconds each call took, by h2load's log: start, status and duration of each."""
    lines = [line.split("\t") for line in log.splitlines()]
    begun = min(int(start) for start, _, _ in lines) + skipped * 1e6
    taken = [int(micros) / 1e3 for start, _, micros in lines if int(start) >= begun]
    if not taken:
        raise WrongAnswerError(f"all {len(lines)} calls were begun within {skipped:g} s: none counts")
    return taken


def _find(pattern: str, output: str) -> str:
    match = re.search(pattern, output)
    if match is None:
        raise WrongAnswerError(f"h2load did not say {pattern!r}:\n{output}")
    return match[1]
