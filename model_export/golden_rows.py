"""Chooses a bundle's golden rows, and has the trained forest score them."""

from collections.abc import Iterable, Sequence

import numpy as np

from model_bundle.decision import Decision
from model_bundle.golden import GoldenRow
from model_export.training import Forest, probabilities
from model_export.trials import Rows, Trial

_COUNTS = {"ordinary": 100, "threshold": 80, "split": 240, "extreme": 72, "uniform": 8}


def choose(
    forest: Forest, decision: Decision, names: Sequence[str], trials: Iterable[Trial], seed: int
) -> list[GoldenRow]:
    """Return about 600 golden rows, with the trained forest's own outputs.

    Parameters
    ----------
    forest
        The trained forest.
    decision
        Of the manifest.
    names
        The features', in order.
    trials
        What to choose from: of each, as many rows as `_COUNTS` says for its kind.
    seed
        Of the choice.
    """
    random = np.random.default_rng(seed)
    chosen: list[GoldenRow] = []
    for trial in trials:
        count = min(_COUNTS[trial.kind], len(trial.rows))
        rows = trial.rows[np.sort(random.choice(len(trial.rows), count, replace=False))]
        chosen += _scored(forest, decision, names, trial.kind, rows)
    return chosen


def _scored(
    forest: Forest, decision: Decision, names: Sequence[str], kind: str, rows: Rows
) -> list[GoldenRow]:
    scores = probabilities(forest, rows).tolist()
    return [
        GoldenRow(kind, dict(zip(names, row, strict=True)), score, decision.label(score))
        for row, score in zip(rows.tolist(), scores, strict=True)
    ]
