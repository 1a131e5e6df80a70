"""What a whole file came to."""

import math
import time
from collections import Counter

from forest_client.scoring import Refused, Scored


class Latencies:
    """How long calls took, in memory that does not grow with them: each is kept to within 1 %."""

    _STEP = math.log(1.02)

    def __init__(self) -> None:
        self._counts: Counter[int] = Counter()

    def add(self, seconds: float) -> None:
        """Count a call."""
        self._counts[round(math.log(max(seconds, 1e-9)) / self._STEP)] += 1

    def percentile(self, percent: float) -> float:
        """Return the seconds within which so many of the calls were answered. NaN if there was none."""
        rank = math.ceil(self._counts.total() * percent / 100)
        for step in sorted(self._counts):
            rank -= self._counts[step]
            if rank <= 0:
                return math.exp(step * self._STEP)
        return math.nan


class Summary:
    """Counts outcomes.

    Parameters
    ----------
    positive
        The positive label; empty for a regression.
    """

    def __init__(self, positive: str):
        self._positive = positive
        self._started = time.perf_counter()
        self._latencies = Latencies()
        self._versions: Counter[str] = Counter()
        self._values = 0.0
        self.scored = self.positives = self.warned = self.refused = 0

    def add(self, outcome: Scored | Refused) -> None:
        """Count a row."""
        if isinstance(outcome, Refused):
            self.refused += 1
            return
        response = outcome.response
        self.scored += 1
        if self._positive:
            self.positives += response.classification.label == self._positive
        self._values += response.regression.value
        self.warned += bool(response.warnings)
        self._versions[f"{response.model} {response.version}"] += 1
        self._latencies.add(outcome.seconds)

    @property
    def rows(self) -> int:
        """How many rows there were, refused ones included."""
        return self.scored + self.refused

    @property
    def rate(self) -> float:
        """Rows per second so far."""
        return self.rows / max(time.perf_counter() - self._started, 1e-9)

    def _outcome(self) -> str:
        if self._positive:
            return f"{self.positives:,} {self._positive}"
        return f"mean value {self._values / self.scored if self.scored else math.nan:g}"

    def __str__(self) -> str:
        counts = [
            f"{self.rows:,} rows",
            self._outcome(),
            f"{self.refused:,} refused",
            f"{self.warned:,} with warnings",
        ]
        if not self.scored:
            return ", ".join(counts)
        p50, p99 = (1000 * self._latencies.percentile(percent) for percent in (50, 99))
        speed = f"{self.rate:,.0f} rows/s, p50 {p50:.1f} ms, p99 {p99:.1f} ms"
        return f"{', '.join(counts)}\n{speed}, by {', '.join(self._versions)}"
