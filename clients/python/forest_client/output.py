"""Where the scores go: standard output, or a file that appears when it is complete."""

import csv
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from forest.v1.model_service_pb2 import TASK_REGRESSION
from forest.v1.prediction_service_pb2 import PredictResponse

from forest_client.scoring import Scored

_CLASSIFICATION = ("label", "probability", "threshold", "risk_level")
_REGRESSION = ("value", "low", "high", "coverage")


@contextmanager
def scores(path: str | None, task: int) -> Iterator[Callable[[Scored], None]]:
    """Open an output, and write its header.

    Parameters
    ----------
    path
        The file's. None is standard output.
    task
        The model's: it decides about the columns.

    Yields
    ------
    callable
        Writes the line of a scored row.

    Raises
    ------
    OSError
        If it cannot be written.
    """
    with _standard_output() if path is None else _file(Path(path)) as stream:
        writer = csv.writer(stream, lineterminator="\n")
        outcome = _regression if task == TASK_REGRESSION else _classification
        columns = _REGRESSION if task == TASK_REGRESSION else _CLASSIFICATION
        writer.writerow(("row", "request_id", *columns, "model", "version"))

        def write(scored: Scored) -> None:
            response = scored.response
            writer.writerow(
                (
                    scored.row.number,
                    response.request_id,
                    *outcome(response),
                    response.model,
                    response.version,
                )
            )

        yield write


# repr is exact: reading that text gives the very number that the server sent.
def _classification(response: PredictResponse) -> Sequence[str]:
    outcome = response.classification
    return outcome.label, repr(outcome.probability), repr(outcome.threshold), outcome.risk_level


def _regression(response: PredictResponse) -> Sequence[str]:
    interval = response.regression.interval
    return tuple(map(repr, (response.regression.value, interval.low, interval.high, interval.coverage)))


@contextmanager
def _standard_output() -> Iterator[TextIO]:
    yield sys.stdout
    sys.stdout.flush()


@contextmanager
def _file(path: Path) -> Iterator[TextIO]:
    path = path.resolve()
    if path.exists() and not path.is_file():
        # A device or a named pipe is written to; replacing it would be a surprise.
        with path.open("w", encoding="utf-8", newline="") as stream:
            yield stream
        return
    aside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with aside.open("x", encoding="utf-8", newline="") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)
