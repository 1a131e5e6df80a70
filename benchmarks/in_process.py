"""ONNX Runtime in a process without a server: `python -m benchmarks.in_process GRAPH ROWS SCORES`.

It reads "ROWS SECONDS" from its input, scores the first so many rows for so long, and answers with a line of
JSON: how many calls there were, and how many milliseconds each took. The scores of all rows are written into
a file at the start, for whoever checks them.
"""

import json
import sys
import time

import numpy as np

import model_bundle.runtime  # noqa: F401 - turns telemetry off before onnxruntime is imported


def main() -> None:
    """Answer until the input ends."""
    import onnxruntime  # noqa: PLC0415

    graph, matrix, scores = sys.argv[1:]
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    rows = np.load(matrix)
    np.save(scores, session.run(["probabilities"], {"X": rows})[0][:, 1])
    for line in sys.stdin:
        count, seconds = line.split()
        asked = {"X": rows[: int(count)].copy()}
        taken = []
        before = time.perf_counter()
        end = before + float(seconds)
        while before < end:
            session.run(["probabilities"], asked)
            after = time.perf_counter()
            taken.append((after - before) * 1e3)
            before = after
        print(json.dumps(taken), flush=True)


if __name__ == "__main__":
    main()
