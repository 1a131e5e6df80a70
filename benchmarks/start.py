"""From start to SERVING, and the memory then, next to what importing the libraries takes."""

import os
import re
import statistics
import subprocess
import sys
import time
from pathlib import Path

from benchmarks import cores

_IMPORTS = """
import os
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
import grpc, numpy, onnxruntime
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = options.inter_op_num_threads = 1
onnxruntime.InferenceSession({graph!r}, options, providers=["CPUExecutionProvider"])
"""


def run(models: Path, results: Path, rounds: int) -> None:
    """Measure in turn; write ``start.md`` and print it."""
    graph = max((models / "fraud").glob("[!.]*/model.onnx"))
    imports, starts, sizes = [], [], []
    for _ in range(rounds):
        imports.append(_imports(graph))
        seconds, size = _serving(models)
        starts.append(seconds)
        sizes.append(size)
    ratio = statistics.median(starts) / statistics.median(imports)
    text = (
        "| | median | lowest to highest |\n|---|---:|---:|\n"
        f"| import grpc, numpy, onnxruntime, and a session | {_span(imports)} |\n"
        f"| forest-serve, start to SERVING | {_span(starts)} |\n\n"
        f"Ratio: {ratio:.2f}. Resident when SERVING: {max(sizes):.0f} MiB at most.\n"
    )
    (results / "start.md").write_text(text)
    print(text)


def _span(seconds: list[float]) -> str:
    return f"{statistics.median(seconds):.3f} s | {min(seconds):.3f} to {max(seconds):.3f} s"


def _imports(graph: Path) -> float:
    script = _IMPORTS.format(graph=str(graph))
    begun = time.perf_counter()
    subprocess.run(cores.pinned(cores.SERVER, [sys.executable, "-c", script]), check=True)
    return time.perf_counter() - begun


def _serving(models: Path) -> tuple[float, float]:
    """Return seconds until the log says SERVING, and MiB resident then."""
    command = [sys.executable, "-m", "server", "--port", "0", "--health-port", "0", "--models", str(models)]
    command += ["--metrics-port", "0"]
    begun = time.perf_counter()
    with subprocess.Popen(
        cores.pinned(cores.SERVER, command),
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
        status = Path(f"/proc/{process.pid}/status").read_text()
        process.kill()
    size = re.search(r"VmRSS:\s+(\d+) kB", status)
    assert size is not None
    return seconds, int(size[1]) / 1024
