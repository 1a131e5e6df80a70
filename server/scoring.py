"""From rows in feature order to their scores: many at once, by steps, and as the same bits as one by one."""

from collections.abc import Generator
from dataclasses import dataclass
from time import perf_counter_ns

import numpy as np
from numpy.typing import NDArray

from model_bundle.bundle import Bundle
from model_bundle.encoding import OddRows
from server.call import Call
from server.decisions import Decisions
from server.status import late

FEW = 64
"""So many rows are best scored at once, in half a millisecond: a change of threads costs a fifth of that."""
# Rows that are scored in one step: it takes some milliseconds, and more at once would not be faster.
_STEP = 512


@dataclass(frozen=True, slots=True)
class Scored:
    """What came of many rows.

    Attributes
    ----------
    scores : ndarray of float64, shape (rows,)
        Each row's score: a probability, or a value. Each is a float32 number.
    odd : list of OddRows
        What is odd about the rows, but allowed, by feature.
    """

    scores: NDArray[np.float64]
    odd: list[OddRows]


def score(
    bundle: Bundle, decisions: Decisions, matrix: NDArray[np.float32], call: Call
) -> Generator[None, None, Scored]:
    """Check and score rows, step by step. No thread holds up another: nothing of the bundle is written to.

    Parameters
    ----------
    bundle
        What to score with.
    decisions
        Where note is taken of what comes of it.
    matrix : ndarray of float32, shape (rows, features)
        The rows, one at least: a category's code, 0 or 1 for a flag, NaN for a missing value.
    call
        Whose rows they are. When nobody waits for them any more, no more of them are scored.

    Raises
    ------
    InvalidRows
        If any row cannot be scored, with the faults of all.
    StatusError
        DEADLINE_EXCEEDED, when the deadline has passed.
    """
    if call.expired():
        raise late()
    odd = bundle.encoder.check_matrix(matrix)
    call.decoded = perf_counter_ns()
    scores = np.empty(len(matrix), np.float64)
    for first in range(0, len(matrix), _STEP):
        if first:
            yield
            if call.expired():
                raise late()
        scores[first : first + _STEP] = bundle.session.score(matrix[first : first + _STEP])
    call.scored = perf_counter_ns()
    yield from decisions.rows(call, matrix, scores)
    return Scored(scores, odd)
