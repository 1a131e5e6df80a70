"""Whether the server's memory stays flat over calls of every shape: `python -m benchmarks soak --minutes N`.

By one row and by many, by position and by name, right and wrong, in an order that is the same in every run.
The first quarter warms it up. Of the rest, the last third must not have more than the first, but for a
little.
"""

import json
import random
import statistics
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from forest.v1.prediction_service_pb2 import (
    Matrix,
    PredictBatchRequest,
    PredictBatchResponse,
    PredictRequest,
    PredictResponse,
    PredictStreamRequest,
    PredictStreamResponse,
)

from benchmarks import forest, limits, load, memory, rows, serving, subjects
from benchmarks.candidates import PATH
from benchmarks.container import ENVIRONMENT, MEBIBYTES, PROCESSORS
from benchmarks.environments import AbsentError
from benchmarks.serving import Process

# Of one shape, before it is another's turn.
_ROWS_A_TURN = 60_000
_CALLS_A_TURN = 3_000
_MOST_ROWS = 8_192
_BATCH = PATH + "Batch"
_TOLERANCE = 1e-6
_WARM_UP = 0.25
# Pages that the allocator happens to hold move by about a megabyte.
_ALLOWED_MEBIBYTES = 3.0


class GrowthError(RuntimeError):
    """The server has more memory at the end than it had at the beginning."""


@dataclass(frozen=True, slots=True)
class Sample:
    """MiB that the server had, so many seconds after the start, after calls of a shape."""

    seconds: float
    mebibytes: float
    shape: str


def growth(samples: list[Sample]) -> float:
    """Return by how many MiB the last third has more than the first, after the warm-up, in the median."""
    counted = samples[int(len(samples) * _WARM_UP) :]
    third = max(len(counted) // 3, 1)
    first, last = counted[:third], counted[-third:]
    return statistics.median(sample.mebibytes for sample in last) - statistics.median(
        sample.mebibytes for sample in first
    )


def measure(minutes: float) -> tuple[list[Sample], str]:
    """Call the server for so long; return the samples, and in words what it was held to."""
    models = forest.models()
    with ExitStack() as stack:
        try:
            held = stack.enter_context(limits.limited(PROCESSORS, MEBIBYTES))
            prefix, said = held.prefix, f"{PROCESSORS:g} processors and {MEBIBYTES} MiB"
        except AbsentError as error:
            prefix, said = [], f"nothing ({error})"
        process = stack.enter_context(
            Process(subjects.server_command(models), prefix=[*prefix, *ENVIRONMENT])
        )
        process.ready(lambda: serving.ask_grpc(process.target, PATH, subjects.Row(models).request))
        caller = _Caller(process.target, models)
        order = random.Random(0)
        samples: list[Sample] = []
        begun = time.monotonic()
        while (now := time.monotonic() - begun) < 60 * minutes:
            shape = caller.turn(order)
            samples.append(
                Sample(round(now, 1), round(memory.mebibytes(process.pid, memory.ANONYMOUS), 2), shape)
            )
            if len(samples) % 30 == 0:
                print(f"soak: {now / 60:.1f} minutes, {samples[-1].mebibytes:.1f} MiB", file=sys.stderr)
    return samples, said


class _Caller:
    """Makes the calls, each turn of one shape, and compares the scores with the forest's."""

    def __init__(self, target: str, models: Path):
        self._target = target
        self._row = subjects.Row(models)
        self._by_name = rows.request(subjects.bundle_folder(models), by_name=True).SerializeToString()
        values = self._row.values
        endless = np.tile(np.array(values, np.float32), (_MOST_ROWS, 1))
        endless[-1, -1] = np.inf
        batch = PredictBatchRequest(model="fraud", matrix=subjects.matrix(endless)).SerializeToString()
        few = _CALLS_A_TURN // 3
        # A path, what it does not answer, and how often it is asked to.
        self._wrong: Mapping[str, tuple[str, bytes, int]] = {
            "an unknown model": (PATH, PredictRequest(model="nobody").SerializeToString(), few),
            "no row": (PATH, PredictRequest(model="fraud").SerializeToString(), few),
            "a short row": (PATH, _by_position(values[1:]), few),
            "an infinity": (PATH, _by_position([float("inf"), *values[1:]]), few),
            "no message": (PATH, b"\xff" * 64, few),
            "too long a message": (PATH, b"\x2a" + bytes(5 * 2**20), 8),
            "a batch with an infinity": (_BATCH, batch, 32),
        }

    def turn(self, order: random.Random) -> str:
        """Make the calls of a shape that the order has; return the shape, in words."""
        shapes = ["by position", "by name", *self._wrong, *["batch", "stream"] * 3]
        shape = order.choice(shapes)
        if shape == "batch":
            count = round(_MOST_ROWS ** order.random())
            return self._batch(count)
        if shape == "stream":
            count = round(512 ** order.random())
            return self._stream(count)
        if shape in self._wrong:
            path, request, calls = self._wrong[shape]
            self._load(path, [request], 0, calls, streams=1 if path == _BATCH else load.STREAMS)
        else:
            request = self._row.request if shape == "by position" else self._by_name
            answer = serving.ask_grpc(self._target, PATH, request)
            self._check(shape, [PredictResponse.FromString(answer).classification.probability])
            self._load(PATH, [request], len(load.framed([answer])), _CALLS_A_TURN)
        return shape

    def _batch(self, count: int) -> str:
        request = PredictBatchRequest(model="fraud", matrix=self._matrix(count)).SerializeToString()
        answer = serving.ask_grpc(self._target, _BATCH, request)
        shape = f"a batch of {count}"
        self._check(shape, PredictBatchResponse.FromString(answer).classifications.probabilities)
        calls = min(max(_ROWS_A_TURN // count, 4), _CALLS_A_TURN)
        self._load(_BATCH, [request], len(load.framed([answer])), calls, streams=1)
        return shape

    def _stream(self, count: int) -> str:
        request = PredictStreamRequest(model="fraud", matrix=self._matrix(count)).SerializeToString()
        path = PATH + "Stream"
        sent = [request] * 64
        answers = serving.ask_grpc_stream(self._target, path, sent)
        shape = f"streams of 64 messages, each of {count}"
        for answer in answers:
            response = PredictStreamResponse.FromString(answer)
            self._check(shape, response.classifications.probabilities)
        calls = min(max(_ROWS_A_TURN // (64 * count), 4), _CALLS_A_TURN)
        self._load(path, sent, len(load.framed(answers)), calls, streams=1)
        return shape

    def _matrix(self, count: int) -> Matrix:
        return subjects.matrix(np.tile(np.array(self._row.values, np.float32), (count, 1)))

    def _load(
        self, path: str, requests: list[bytes], received: int, calls: int, streams: int = load.STREAMS
    ) -> None:
        call = load.Call(f"http://{self._target}{path}", load.framed(requests), received)
        load.run(call, calls, streams=streams)

    def _check(self, shape: str, probabilities: Sequence[float]) -> None:
        if not probabilities or any(
            abs(probability - self._row.probability) > _TOLERANCE for probability in probabilities
        ):
            raise load.WrongAnswerError(f"{shape}: {probabilities[:3]}, not {self._row.probability}")


def _by_position(values: list[float]) -> bytes:
    request = PredictRequest(model="fraud")
    request.vector.values.extend(values)
    return request.SerializeToString()


def plot(samples: list[Sample], path: Path) -> None:
    """Draw the memory over time."""
    import matplotlib as mpl  # noqa: PLC0415

    mpl.use("agg")
    from matplotlib import pyplot  # noqa: PLC0415

    figure, axes = pyplot.subplots(figsize=(9, 3), layout="constrained")
    axes.plot(
        [sample.seconds / 60 for sample in samples], [sample.mebibytes for sample in samples], color="#1b6e4b"
    )
    axes.axvspan(0, samples[int(len(samples) * _WARM_UP)].seconds / 60, color="#b9c4be", alpha=0.4)
    axes.set_ylim(0, max(sample.mebibytes for sample in samples) * 1.15)
    axes.set_xlabel("minutes; the first quarter does not count")
    axes.set_ylabel("MiB")
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def run(minutes: float, results: Path) -> None:
    """Measure; write ``soak.md``, ``soak.json`` and ``soak.png``; raise `GrowthError` if memory has grown."""
    samples, said = measure(minutes)
    grown = growth(samples)
    text = (
        f"{minutes:g} minutes, {len(samples)} turns, the server held to {said}. Memory: "
        f"{statistics.median(sample.mebibytes for sample in samples):.1f} MiB in the median, "
        f"{max(sample.mebibytes for sample in samples):.1f} at most. From the first third after the warm-up "
        f"to the last it grew by {grown:.1f} MiB; up to {_ALLOWED_MEBIBYTES:g} count as flat.\n"
    )
    (results / "soak.md").write_text(text)
    (results / "soak.json").write_text(json.dumps([asdict(sample) for sample in samples], indent=1) + "\n")
    plot(samples, results / "soak.png")
    print(text)
    if grown > _ALLOWED_MEBIBYTES:
        raise GrowthError(f"the server's memory grew by {grown:.1f} MiB in {minutes:g} minutes")
