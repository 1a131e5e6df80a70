"""How much memory the serving process takes."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from forest.v1.prediction_service_pb2 import PredictRequest, Record, Value, Vector
from forest.v1.prediction_service_pb2_grpc import PredictionServiceStub

_MIB = 1024
_DEFAULT = Path(__file__).parents[2] / "models"


def _resident(process: Any) -> int:
    status = Path(f"/proc/{process.pid}/status").read_text()
    found = re.search(r"VmRSS:\s+(\d+) kB", status)
    assert found
    return int(found[1])


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="this system has no /proc")
def test_the_resident_size_stays_below_150_mib_and_does_not_grow(
    start_server: Callable[..., Any],
    fraud_bundle: Path,
    golden: list[Any],
    names: list[str],
    connect: Callable[..., Any],
) -> None:
    # The default bundle is the larger one, if there is one.
    full = sorted((_DEFAULT / "fraud").glob("*/manifest.json"))
    process = start_server(_DEFAULT if full else fraud_bundle.parents[1])
    requests = []
    for row in golden[:50]:
        record = {name: Value(number=value) for name, value in zip(names, row.values, strict=True)}
        requests.append(PredictRequest(model="fraud", vector=Vector(values=row.values)))
        requests.append(PredictRequest(model="fraud", record=Record(features=record)))
    with connect(process.target) as channel:
        predict = PredictionServiceStub(channel).Predict

        def call(times: int) -> int:
            for number in range(times):
                predict(requests[number % len(requests)], timeout=10)
            return _resident(process.process)

        first = call(1_000)
        last = call(4_000)
    assert process.stop() == 0
    assert last < 150 * _MIB, f"{last / _MIB:.0f} MiB"
    assert last - first < 4 * _MIB, f"grew by {last - first} KiB in 4,000 calls"
