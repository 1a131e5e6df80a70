"""Where the scores go: standard output, or a file that appears when it is complete."""

import csv
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from forest_client.scoring import Scored

COLUMNS = ("row", "request_id", "label", "probability", "threshold", "risk_level", "model", "version")


@contextmanager
def scores(path: str | None) -> Iterator[Callable[[Scored], None]]:
    """Open an output, and write its header.

    Parameters
    ----------
    path
        The file's. None is standard output.

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
        writer.writerow(COLUMNS)

        def write(scored: Scored) -> None:
            response, outcome = scored.response, scored.response.classification
            writer.writerow(
                (
                    scored.row.number,
                    response.request_id,
                    outcome.label,
                    # Exact: reading this text gives the very number that the server sent.
                    repr(outcome.probability),
                    repr(outcome.threshold),
                    outcome.risk_level,
                    response.model,
                    response.version,
                )
            )

        yield write


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
