"""From start to SERVING, and the memory then, next to what importing the libraries takes."""

import os
import resource
import statistics
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks import cores, memory, serving
from model_bundle import bundle

_IMPORTS = """
import os, sys
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
import grpc, numpy, onnxruntime
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = options.inter_op_num_threads = 1
session = onnxruntime.InferenceSession({graph!r}, options, providers=["CPUExecutionProvider"])
print("SERVING", file=sys.stderr, flush=True)
sys.stdin.read()
"""


@dataclass(frozen=True, slots=True)
class _Start:
    """Seconds, seconds of the processor, and MiB in memory: of them, the process's own."""

    seconds: float
    processor: float
    resident: float
    own: float


def run(models: Path, results: Path, rounds: int) -> None:
    """Measure in turn; write ``start.md`` and print it."""
    graph = max((models / "fraud").glob("[!.]*/model.onnx"))
    program = _IMPORTS.format(graph=str(graph))
    imports, server = [], []
    for _ in range(rounds):
        imports.append(_start(serving.python("-c", program)))
        server.append(
            _start(
                serving.python(
                    *("-m", "server", "--models", str(models), "--port", "0", "--health-port", "0"),
                    *("--metrics-port", str(serving.free_port())),
                )
            )
        )
    ratio = statistics.median(
        ours.processor / bare.processor for ours, bare in zip(server, imports, strict=True)
    )
    served = sorted(models.glob("[!.]*/[!.]*/"))
    golden = sum(len((folder / bundle.GOLDEN).read_bytes().splitlines()) for folder in served)
    text = (
        "| | median | lowest to highest | of the processor | resident | its own |\n"
        "|---|---:|---:|---:|---:|---:|\n"
        f"| import grpc, numpy, onnxruntime, and a session | {_cells(imports)} |\n"
        f"| forest-serve, start to SERVING | {_cells(server)} |\n\n"
        f"{len(served)} models with {golden:,} golden rows. Ratio of the processor's time: {ratio:.2f}.\n"
    )
    (results / "start.md").write_text(text)
    print(text)


def _cells(starts: list[_Start]) -> str:
    seconds = [start.seconds for start in starts]

    def median(of: Callable[[_Start], float]) -> float:
        return statistics.median(map(of, starts))

    return (
        f"{median(lambda start: start.seconds):.3f} s | {min(seconds):.3f} to {max(seconds):.3f} s "
        f"| {median(lambda start: start.processor):.3f} s | {median(lambda start: start.resident):.0f} MiB "
        f"| {median(lambda start: start.own):.0f} MiB"
    )


def _start(command: list[str]) -> _Start:
    """Measure a command until it says SERVING, and end it."""
    before = _processor()
    begun = time.perf_counter()
    with subprocess.Popen(
        cores.pinned(cores.SERVER, command),
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    ) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if "NOT_SERVING" not in line and "SERVING" in line:
                break
        else:
            raise RuntimeError("the server did not come to serve")
        seconds = time.perf_counter() - begun
        resident, own = (
            memory.mebibytes(process.pid, field) for field in (memory.RESIDENT, memory.ANONYMOUS)
        )
        process.kill()
    return _Start(seconds, _processor() - before, resident, own)


def _processor() -> float:
    """Return seconds of the processor that children of this process took which have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
