"""What is found: each feature's and the score's drift, and what they come to."""

import json
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import numpy as np

from model_bundle import drift
from model_bundle.bundle import Bundle
from model_bundle.counter import Counter
from model_bundle.drift import Judgement, Level
from model_bundle.reference import Counts, Histogram, Reference
from model_export.drift.rows import Rows

NONE, FOUND, UNTOLD = 0, 1, 3
"""The exit statuses of a report: no drift, drift, too few rows to tell. 2 is of what cannot be read."""


@dataclass(frozen=True, slots=True)
class Compared:
    """A feature, or the score.

    Attributes
    ----------
    histogram : Histogram
        Of the reference.
    counts : ndarray of int64, shape (bins + 4,)
        Rows in the reference's bins.
    judgement : Judgement
    unknown : dict
        The commonest of its unknown values, with how many rows have each.
    ignored : bool
        Whether its drift is told, and decides nothing.
    """

    histogram: Histogram
    counts: Counts
    judgement: Judgement
    unknown: dict[str, int]
    ignored: bool

    @property
    def name(self) -> str:
        """The feature's name, or ``score``."""
        return self.histogram.name

    @property
    def missing(self) -> float:
        """The share of rows without a value."""
        return float(self.counts[-1] / max(self.judgement.rows, 1))

    @property
    def outside(self) -> float:
        """The share of rows outside of the reference's range, or with an unknown value."""
        return float((self.counts[0] + self.counts[-2]) / max(self.judgement.rows, 1))


@dataclass(frozen=True, slots=True)
class Report:
    """What became of the rows of one source.

    Attributes
    ----------
    model, version, digest : str
        Of the bundle.
    source : str
        Where the rows are from.
    rows, refused : int
        How many; and how many of them a server would refuse. They have no score.
    unused : tuple of str
        Columns that are none of the model's.
    needed : int or None
        How many rows would be enough to tell a great drift of every feature; None if none would.
    compared : tuple of Compared
        The score, and then the features, those that have drifted most first.
    """

    model: str
    version: str
    digest: str
    source: str
    rows: int
    refused: int
    unused: tuple[str, ...]
    needed: int | None
    compared: tuple[Compared, ...]

    def of_level(self, level: Level) -> list[str]:
        """Return the names of what has such a level, without the ignored."""
        return [each.name for each in self.compared if each.judgement.level == level and not each.ignored]

    @property
    def status(self) -> int:
        """The exit status: `FOUND`, `UNTOLD` or `NONE`."""
        if self.of_level("great"):
            return FOUND
        return UNTOLD if self.of_level("untold") else NONE

    @property
    def verdict(self) -> str:
        """One sentence."""
        if great := self.of_level("great"):
            return f"drift: {_listed(great)}"
        if untold := self.of_level("untold"):
            enough = "more than the reference has" if self.needed is None else str(self.needed)
            return f"too few rows to tell of {_listed(untold)}: {enough} are needed"
        if moderate := self.of_level("moderate"):
            return f"no drift, but worth a look: {_listed(moderate)}"
        return "no drift"


def make(bundle: Bundle, reference: Reference, rows: Rows, ignored: Collection[str]) -> Report:
    """Score rows, and compare them and their scores with the reference.

    Parameters
    ----------
    bundle
        The model. Its own session scores.
    reference
        The bundle's.
    rows
        What to compare.
    ignored
        Features whose drift decides nothing.
    """
    scores = np.full(len(rows.matrix), np.nan, np.float32)
    scores[~rows.refused] = bundle.session.score(rows.matrix[~rows.refused])
    counter = Counter(reference)
    counter.add_all(rows.matrix, scores)
    parts = counter.parts(counter.take())
    # Rows that are refused have no score, and it is not missing.
    parts[-1][-1] = 0
    comparisons = len(reference)
    compared = [
        Compared(
            histogram,
            counts,
            drift.judge(histogram.counts, counts, comparisons, discrete=histogram.discrete),
            dict(rows.unknown.get(histogram.name, {})),
            histogram.name in ignored,
        )
        for histogram, counts in zip(reference, parts, strict=True)
    ]
    needed = [drift.rows_needed(histogram.counts, comparisons) for histogram in reference]
    manifest = bundle.manifest
    return Report(
        manifest.model,
        manifest.version,
        bundle.digest,
        rows.source,
        len(rows.matrix),
        int(rows.refused.sum()),
        rows.unused,
        None if None in needed else max(each for each in needed if each is not None),
        (compared[-1], *sorted(compared[:-1], key=lambda each: -each.judgement.index)),
    )


def to_json(report: Report) -> str:
    """Return a report for programs. docs/drift.md has the format."""
    document: dict[str, Any] = {
        "schema_version": 1,
        "model": report.model,
        "version": report.version,
        "digest": report.digest,
        "source": report.source,
        "rows": report.rows,
        "refused": report.refused,
        "unused": list(report.unused),
        "status": report.status,
        "verdict": report.verdict,
        "limits": {"moderate": drift.MODERATE, "great": drift.GREAT, "false_alarms": drift.FALSE_ALARMS},
        "compared": [
            {
                "name": each.name,
                "level": each.judgement.level,
                "psi": round(each.judgement.index, 6),
                "jensen_shannon": None
                if each.judgement.distance is None
                else round(each.judgement.distance, 6),
                "chance": round(each.judgement.chance, 6) if each.judgement.rows else None,
                "ignored": each.ignored,
                "rows": each.judgement.rows,
                "unknown": each.unknown,
                "bins": [
                    {"bin": name, "reference": int(before), "rows": int(now)}
                    for name, before, now in zip(
                        each.histogram.bins(), each.histogram.counts, each.counts, strict=True
                    )
                    if before or now
                ],
            }
            for each in report.compared
        ],
    }
    return json.dumps(document, indent=1, allow_nan=False, ensure_ascii=False) + "\n"


def to_text(report: Report) -> str:
    """Return a report for a terminal."""
    lines = [
        f"{report.model} {report.version}, {report.source}: {report.rows} rows, "
        f"{report.refused} that a server would refuse",
        report.verdict,
        "",
    ]
    width = max(7, *(len(each.name) for each in report.compared))
    lines.append(f"{'feature':{width}}  level        psi  by chance  distance  missing  outside")
    for each in report.compared:
        judged = each.judgement
        distance = "" if judged.distance is None else f"{judged.distance:.3f}"
        level = f"({judged.level})" if each.ignored else judged.level
        lines.append(
            f"{each.name:{width}}  {level:10} {judged.index:6.3f}  {judged.chance:9.3f}  {distance:>8}  "
            f"{each.missing:7.2%}  {each.outside:7.2%}"
        )
    lines += [
        f"{each.name}: unknown: " + ", ".join(f"{text!r} {count}" for text, count in each.unknown.items())
        for each in report.compared
        if each.unknown
    ]
    if report.unused:
        lines.append(f"not used: {', '.join(report.unused)}")
    return "\n".join(lines) + "\n"


def _listed(names: list[str]) -> str:
    return ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
