"""Golden rows: inputs with what the trained forest itself made of them, kept with the bundle.

One JSON object a line::

    {"kind": "split", "record": {"Time": 0.0, "V1": -1.36, ...}, "probability": 0.0625, "label": "legitimate"}

A regression's has ``value``, ``low`` and ``high`` instead of ``probability`` and ``label``.
``record`` is by name and as a caller has it (a number, a category's text, a flag, null for a missing value),
so that replaying it proves the features' order and encoding as well as the graph.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from model_bundle.decision import Decision, Estimate, Outcome
from model_bundle.encoding import Encoder, InvalidRow, Value
from model_bundle.session import Session


class GoldenRowError(ValueError):
    """Golden rows that cannot be read, or that this server does not score as the trained forest did."""


@dataclass(frozen=True, slots=True)
class GoldenRow:
    """A row, why it is here, and what the trained forest made of it: see `Decision.outcome`."""

    kind: str
    record: Mapping[str, Value]
    outcome: Outcome


def to_bytes(rows: Iterable[GoldenRow]) -> bytes:
    """Return golden rows as JSON lines."""
    lines = (
        json.dumps(
            {"kind": row.kind, "record": dict(row.record), **row.outcome},
            ensure_ascii=False,
            allow_nan=False,
        )
        for row in rows
    )
    return "".join(line + "\n" for line in lines).encode()


def from_bytes(data: bytes) -> list[GoldenRow]:
    """Read golden rows. Raises `GoldenRowError`, which names the line."""
    rows = []
    for number, line in enumerate(data.splitlines(), 1):
        try:
            document: dict[str, Any] = json.loads(line)
            kind, record = str(document.pop("kind")), dict(document.pop("record"))
            rows.append(GoldenRow(kind, record, document))
        except (ValueError, TypeError, KeyError) as error:
            raise GoldenRowError(f"line {number}: {error!r}") from error
    return rows


def replay(rows: list[GoldenRow], encoder: Encoder, session: Session, decision: Decision | Estimate) -> float:
    """Score golden rows one by one and as one batch, and compare with the trained forest.

    Returns
    -------
    float
        The greatest difference of a probability, or of a value.

    Raises
    ------
    GoldenRowError
        If there are none; or naming the first row that gets another label, a number further off than the
        decision tolerates, or not the same bits alone as in the batch.
    """
    if not rows:
        raise GoldenRowError("there are no golden rows")
    vectors = np.empty((len(rows), len(encoder.features)), np.float32)
    scores = []
    worst = 0.0
    for index, row in enumerate(rows):
        place = f"golden row {index + 1} ({row.kind})"
        try:
            encoder.encode_record(row.record)
        except InvalidRow as error:
            raise GoldenRowError(f"{place} is refused: {error}") from error
        vectors[index] = encoder.row
        score = session.score_row()
        scores.append(score)
        worst = max(worst, _compare(place, decision.outcome(score), row.outcome, decision.tolerance(score)))
    unequal = np.flatnonzero(session.score(vectors) != np.array(scores, np.float32))
    if unequal.size:
        raise GoldenRowError(f"golden row {unequal[0] + 1} scores differently alone and in a batch")
    return worst


def _compare(place: str, found: Outcome, expected: Outcome, tolerance: float) -> float:
    """Return the greatest difference of two outcomes' numbers. Raises `GoldenRowError` for any other."""
    if found.keys() != expected.keys():
        raise GoldenRowError(f"{place} has {', '.join(expected)}, but the model gives {', '.join(found)}")
    worst = 0.0
    for name, value in found.items():
        right = expected[name]
        if isinstance(value, float) and isinstance(right, float | int):
            difference = abs(value - right)
            wrong = not difference <= tolerance
            worst = max(worst, difference)
        else:
            wrong = value != right
        if wrong:
            raise GoldenRowError(f"{place}: {name} {value}, but the trained forest gave {right}")
    return worst
