"""Whether large batches hold up single rows: Predict's latency alone, and while batches of 10,000 rows run.

One server on one core, asked for single rows at a steady rate. In turns, nobody else calls it; one or four
callers have batches scored without a pause; or two have records decoded and scored. Answers are checked.
"""

import statistics
import struct
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import numpy as np
from forest.v1.prediction_service_pb2 import (
    Matrix,
    PredictBatchRequest,
    PredictBatchResponse,
    PredictResponse,
    Records,
)

from benchmarks import cores, rows
from benchmarks.load import WrongAnswerError

_PREDICT = "/forest.v1.PredictionService/Predict"
_BATCH = "/forest.v1.PredictionService/PredictBatch"
_PORT = 50971
# Calls of Predict a second on each of four connections, and for so many seconds in a round.
_RATE = 250
_SECONDS = 3
_ROWS = 10_000
_RECORDS = 1_000


def run(models: Path, results: Path, rounds: int) -> None:
    """Measure; write ``stall.md``, and print the table."""
    folder = max((models / "fraud").glob("[!.]*"))
    request = rows.request(folder, by_name=False)
    values = np.array(request.vector.values, "<f4")
    record = rows.request(folder, by_name=True).record
    large = PredictBatchRequest(
        model="fraud", matrix=Matrix(rows=_ROWS, columns=values.size, data=np.tile(values, _ROWS).tobytes())
    ).SerializeToString()
    by_name = PredictBatchRequest(
        model="fraud", records=Records(records=[record] * _RECORDS)
    ).SerializeToString()
    beside = {
        "nobody else": (b"", 0, 0),
        "batches of 10,000 rows, one at a time": (large, 1, _ROWS),
        "batches of 10,000 rows, four at a time": (large, 4, _ROWS),
        "batches of 1,000 records, two at a time": (by_name, 2, _RECORDS),
    }
    command = [sys.executable, "-m", "server", "--models", str(models)]
    command += ["--port", str(_PORT), "--health-port", "0", "--metrics-port", "0"]
    taken: dict[str, list[list[float]]] = {name: [] for name in beside}
    with subprocess.Popen(cores.pinned(cores.SERVER, command), stderr=subprocess.DEVNULL) as server:
        try:
            with grpc.insecure_channel(f"localhost:{_PORT}") as channel:
                predict: Any = channel.unary_unary(_PREDICT)
                predict_batch: Any = channel.unary_unary(_BATCH)
                answer = predict(request.SerializeToString(), wait_for_ready=True, timeout=30)
                alone = PredictResponse.FromString(answer).classification.probability
                for batch, _, count in list(beside.values())[1:]:
                    answer = predict_batch(batch, timeout=30)
                    found = PredictBatchResponse.FromString(answer).classifications.probabilities
                    if list(found) != [alone] * count:
                        raise WrongAnswerError("a batch has other scores than its row alone")
            for _ in range(rounds):
                for name, (batch, callers, _) in beside.items():
                    with _calling(batch, callers):
                        taken[name].append(_latencies(request.SerializeToString()))
        finally:
            server.kill()
    text = _table(taken)
    (results / "stall.md").write_text(text)
    print(text)


def _table(taken: dict[str, list[list[float]]]) -> str:
    lines = [
        "| beside it | calls | p50 ms | p99 ms | / alone | slowest ms |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    reference = 0.0
    for name, each in taken.items():
        middles = [statistics.median(times) for times in each]
        hundredths = [statistics.quantiles(times, n=100)[-1] for times in each]
        p99 = statistics.median(hundredths)
        reference = reference or p99
        lines.append(
            f"| {name} | {sum(map(len, each)):,} | {statistics.median(middles):.2f} | {p99:.2f} "
            f"| {p99 / reference:.2f} | {max(map(max, each)):.1f} |"
        )
    return "\n".join(lines) + "\n"


@contextmanager
def _calling(batch: bytes, callers: int) -> Iterator[None]:
    """Have batches scored without a pause, each caller one at a time."""
    if not callers:
        yield
        return
    with tempfile.NamedTemporaryFile() as body:
        body.write(struct.pack(">BI", 0, len(batch)) + batch)
        body.flush()
        command = _h2load("-D", "60", "-c", str(callers), "-m", "1", path=_BATCH, body=body.name)
        with subprocess.Popen(command, stdout=subprocess.DEVNULL) as load:
            try:
                yield
            finally:
                load.kill()


def _latencies(request: bytes) -> list[float]:
    """Return how many ms each call of Predict took."""
    with tempfile.NamedTemporaryFile() as body, tempfile.NamedTemporaryFile("r") as log:
        body.write(struct.pack(">BI", 0, len(request)) + request)
        body.flush()
        flags = ("-D", str(_SECONDS), "-c", "4", "-m", "8", "--rps", str(_RATE), "--log-file", log.name)
        subprocess.run(
            _h2load(*flags, path=_PREDICT, body=body.name),
            check=True,
            stdout=subprocess.DEVNULL,
            timeout=120,
        )
        return [int(line.split("\t")[2]) / 1000 for line in log]


def _h2load(*flags: str, path: str, body: str) -> list[str]:
    command = ["h2load", *flags, "-t", "1", "-d", body]
    command += ["-H", "content-type: application/grpc", "-H", "te: trailers"]
    return cores.pinned(cores.LOAD, [*command, f"http://localhost:{_PORT}{path}"])
