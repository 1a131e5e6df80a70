"""Golden rows: inputs with what the trained forest itself made of them, kept with the bundle.

One JSON object a line::

    {"kind": "split", "record": {"Time": 0.0, "V1": -1.36, ...}, "probability": 0.0625, "label": "legitimate"}

``record`` is by name and as a caller has it (a number, a category's text, a flag, null for a missing value),
so that replaying it proves the features' order and encoding as well as the graph.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from model_bundle.decision import Decision
from model_bundle.encoding import Encoder, InvalidRow, Value
from model_bundle.session import Session

TOLERANCE = 1e-6
"""How far a probability may be from the trained forest's, for up to 300 trees."""


class GoldenRowError(ValueError):
    """Golden rows that cannot be read, or that this server does not score as the trained forest did."""


@dataclass(frozen=True, slots=True)
class GoldenRow:
    """A row, why it is here, and what the trained forest made of it."""

    kind: str
    record: Mapping[str, Value]
    probability: float
    label: str


def to_bytes(rows: Iterable[GoldenRow]) -> bytes:
    """Return golden rows as JSON lines."""
    lines = (
        json.dumps(
            {
                "kind": row.kind,
                "record": dict(row.record),
                "probability": row.probability,
                "label": row.label,
            },
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
            rows.append(
                GoldenRow(
                    str(document["kind"]),
                    dict(document["record"]),
                    float(document["probability"]),
                    str(document["label"]),
                )
            )
        except (ValueError, TypeError, KeyError) as error:
            raise GoldenRowError(f"line {number}: {error!r}") from error
    return rows


def replay(rows: list[GoldenRow], encoder: Encoder, session: Session, decision: Decision) -> float:
    """Score golden rows one by one and as one batch, and compare with the trained forest.

    Returns
    -------
    float
        The greatest difference of a probability.

    Raises
    ------
    GoldenRowError
        If there are none; or naming the first row that gets another label, a probability further off than
        `TOLERANCE`, or not the same bits alone as in the batch.
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
        difference = abs(score - row.probability)
        if not difference <= TOLERANCE:
            raise GoldenRowError(
                f"{place}: probability {score!r}, but the trained forest gave {row.probability!r}"
            )
        if decision.label(score) != row.label:
            raise GoldenRowError(
                f"{place}: label {decision.label(score)}, but the trained forest gave {row.label}"
            )
        worst = max(worst, difference)
    unequal = np.flatnonzero(session.score(vectors) != np.array(scores, np.float32))
    if unequal.size:
        raise GoldenRowError(f"golden row {unequal[0] + 1} scores differently alone and in a batch")
    return worst
