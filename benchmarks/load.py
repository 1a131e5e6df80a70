"""Load from h2load, which speaks gRPC given a framed body. Every call of a run is checked."""

import re
import shutil
import struct
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from benchmarks import cores

CONNECTIONS = 4
STREAMS = 8


@dataclass(frozen=True, slots=True)
class Run:
    """What one run of load measured: calls a second, mean and worst milliseconds of a call."""

    rate: float
    mean: float
    worst: float


class WrongAnswerError(RuntimeError):
    """Some call of a run was not answered as it should be."""


def run(
    target: str,
    path: str,
    request: bytes,
    response: bytes,
    calls: int,
    *,
    connections: int = CONNECTIONS,
    streams: int = STREAMS,
    core: int | str = cores.LOAD,
) -> Run:
    """Call a server so many times with one request, over 4 connections with 8 calls at once on each.

    h2load counts a call that failed by its gRPC status as done. A failed call carries no message, though, so
    that the bytes received tell whether each call was answered with a message of the right length. Whether
    it is the right message is asked before and after by a client that reads it.
    """
    program = shutil.which("h2load")
    if program is None:
        raise FileNotFoundError("h2load is missing: on Debian, apt-get install nghttp2-client")
    with tempfile.TemporaryDirectory() as folder:
        body = Path(folder) / "body"
        body.write_bytes(struct.pack(">BI", 0, len(request)) + request)
        command = [program, "-n", str(calls), "-c", str(connections), "-m", str(streams), "-t", "1"]
        command += ["-d", str(body), "-H", "content-type: application/grpc", "-H", "te: trailers"]
        output = subprocess.run(
            cores.pinned(core, [*command, f"http://{target}{path}"]),
            check=True,
            capture_output=True,
            text=True,
            timeout=300,
        ).stdout
    succeeded = int(_find(r"(\d+) succeeded", output))
    received = int(_find(r"traffic: .*\((\d+)\) data", output))
    expected = calls * (5 + len(response))
    if succeeded != calls or received != expected:
        raise WrongAnswerError(
            f"{path} on {target}: {succeeded} of {calls} calls succeeded, with {received} bytes of messages, "
            f"not {expected}"
        )
    times = _find(r"time for request: +(.*)", output).split()
    return Run(float(_find(r", ([\d.]+) req/s", output)), _milliseconds(times[2]), _milliseconds(times[1]))


def _find(pattern: str, output: str) -> str:
    match = re.search(pattern, output)
    if match is None:
        raise WrongAnswerError(f"h2load did not say {pattern!r}:\n{output}")
    return match[1]


def _milliseconds(text: str) -> float:
    for unit, factor in (("us", 1e-3), ("ms", 1.0), ("s", 1e3)):
        if text.endswith(unit):
            return float(text.removesuffix(unit)) * factor
    raise ValueError(f"h2load wrote a time as {text!r}")
