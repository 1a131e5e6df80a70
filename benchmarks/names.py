"""What a row by name costs next to a row by position: the server's own core, from bytes to bytes.

Without a transport, which costs the same for both. All take turns, in processor time of the one thread, so
that other programs on the machine hit all alike.
"""

import math
import statistics
import time
from pathlib import Path

from benchmarks import rows
from server.call import Call
from server.models import Models
from server.prediction_service import PredictionService

_CALLS = 2_000
_REFERENCE = "fraud, by position"


def run(models: Path, results: Path, rounds: int) -> None:
    """Measure; write ``names.md``, and print the table."""
    found = Models(models)
    found.load()
    service, call = PredictionService(found), Call(math.inf, (), str)
    requests, features = {}, {}
    for model in found.names():
        folder = found.find(model, "").folder
        kinds = [kind for _, kind in rows.usual(folder)[0].kinds]
        held = [f"{kinds.count(kind)} {kind}s" for kind in ("number", "text", "flag") if kind in kinds]
        for way, by_name in (("by position", False), ("by name", True)):
            requests[f"{model}, {way}"] = rows.request(folder, by_name).SerializeToString()
            features[f"{model}, {way}"] = ", ".join(held)
    taken: dict[str, list[float]] = {name: [] for name in requests}
    for _ in range(10 * rounds):
        for name, request in requests.items():
            start = time.thread_time()
            for _ in range(_CALLS):
                service.predict(request, call)
            taken[name].append((time.thread_time() - start) / _CALLS * 1e6)
    medians = {name: statistics.median(each) for name, each in taken.items()}
    lines = [f"| request | features | median µs | least µs | / {_REFERENCE} |", "|---|---|---:|---:|---:|"]
    lines += [
        f"| {name} | {features[name]} | {median:.1f} | {min(taken[name]):.1f} "
        f"| {median / medians[_REFERENCE]:.2f} |"
        for name, median in medians.items()
    ]
    text = "\n".join(lines) + "\n"
    (results / "names.md").write_text(text)
    print(text)
