"""Chooses a bundle's golden rows, and has the trained model score them."""

from collections.abc import Iterable

import numpy as np

from model_bundle.decision import Decision, Estimate
from model_bundle.encoding import Encoder
from model_bundle.golden import GoldenRow
from model_export.training import Trained
from model_export.trials import Rows, Trial

_COUNTS = {
    "ordinary": 100,
    "threshold": 80,
    "cut": 80,
    "split": 240,
    "extreme": 72,
    "uniform": 8,
    "missing": 60,
}


def choose(
    trained: Trained, decision: Decision | Estimate, encoder: Encoder, trials: Iterable[Trial], seed: int
) -> list[GoldenRow]:
    """Return about 600 golden rows, with the trained model's own outputs.

    Parameters
    ----------
    trained
        The trained model.
    decision
        Of the manifest.
    encoder
        Of the manifest's features.
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
        chosen += _scored(trained, decision, encoder, trial.kind, rows)
    return chosen


def _scored(
    trained: Trained, decision: Decision | Estimate, encoder: Encoder, kind: str, rows: Rows
) -> list[GoldenRow]:
    scores = trained.scores(rows).tolist() if len(rows) else []
    return [
        GoldenRow(kind, encoder.record(row), decision.outcome(score))
        for row, score in zip(rows.tolist(), scores, strict=True)
    ]
