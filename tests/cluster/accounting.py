"""What became of every call of a caller's log, and whether Git said so at that time."""

import math
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

from tests.cluster.caller.call_log import Call, End, LogError, read


@dataclass(frozen=True, slots=True)
class Release:
    """A bundle's version and digest, as an answer names them."""

    version: str
    digest: str


@dataclass(frozen=True, slots=True)
class Said:
    """A time in which a release is right, both ends included, in Unix seconds.

    While pods are replaced two releases are: the old one until its last pod is gone, and the new one from its
    commit.
    """

    release: Release
    begin: float
    end: float = math.inf


@dataclass(frozen=True, slots=True)
class Change:
    """A commit that says which release is to run.

    Attributes
    ----------
    release : Release
        What it says.
    pushed : float
        When it reached the branch, in Unix seconds.
    done : float or None
        When the last pod of any other release was gone; None if that never came to be, as with a release
        that does not start.
    """

    release: Release
    pushed: float
    done: float | None


def said(first: Release, changes: Iterable[Change]) -> list[Said]:
    """Return when which release was right.

    Parameters
    ----------
    first
        What ran before the changes.
    changes
        In the order of their pushes.

    Returns
    -------
    list of Said
        For ``first`` and for each change. Each holds until a later change is done.
    """
    changes = list(changes)
    pushed = [-math.inf, *(change.pushed for change in changes)]
    if pushed != sorted(pushed):
        raise ValueError("changes must be in the order of their pushes")
    releases = [first, *(change.release for change in changes)]
    return [
        Said(
            release,
            begin,
            min((change.done for change in changes[place:] if change.done is not None), default=math.inf),
        )
        for place, (release, begin) in enumerate(zip(releases, pushed, strict=True))
    ]


@dataclass(frozen=True, slots=True)
class Log:
    """A caller's log, or what was sent in some part of its time.

    Attributes
    ----------
    calls : tuple of Call
        All with a line, by number.
    numbers : range
        The numbers of all calls that were sent, with a line or without.
    closed : bool
        Whether the caller has said how many it sent. If not, calls after the last line may be missing.
    """

    calls: tuple[Call, ...]
    numbers: range
    closed: bool

    def between(self, begin: float, end: float) -> "Log":
        """Return the calls sent from a time on and before another.

        A call without a line counts to the part that the line before it belongs to, so that parts that meet
        have each call once.
        """
        sent = [call.sent for call in self.calls]
        first, last = bisect_left(sent, begin), bisect_left(sent, end)
        if first == last:
            return Log((), range(0), self.closed)
        start = self.calls[first].number if first else self.numbers.start
        stop = self.calls[last].number if last < len(self.calls) else self.numbers.stop
        return Log(self.calls[first:last], range(start, stop), self.closed)


def read_log(lines: Iterable[str]) -> Log:
    """Read a caller's log, also one that is not complete.

    Raises
    ------
    LogError
        If no caller can have written it: a line is none, a call has two, or its numbers are beyond the number
        of calls sent.
    """
    calls: dict[int, Call] = {}
    sent = None
    for entry in read(lines):
        if isinstance(entry, Call):
            if entry.number in calls:
                raise LogError(f"call {entry.number} has two lines")
            calls[entry.number] = entry
        elif isinstance(entry, End):
            sent = entry.sent
    ordered = tuple(calls[number] for number in sorted(calls))
    highest = ordered[-1].number if ordered else 0
    if sent is not None and highest > sent:
        raise LogError(f"{sent} calls were sent, but call {highest} has a line")
    if any(after.sent < before.sent for before, after in pairwise(ordered)):
        raise LogError("a call was sent before one with a lower number: the clock was set back")
    return Log(ordered, range(1, (highest if sent is None else sent) + 1), sent is not None)


class Gap(NamedTuple):
    """A time without an answer, in seconds, and when it began, in Unix seconds."""

    seconds: float
    begin: float


@dataclass(frozen=True, slots=True)
class Account:
    """What became of the calls of a log.

    Attributes
    ----------
    sent : int
        How many there were. Each was answered, failed or lost.
    answered : int
        How many have an answer.
    failed : dict of str to int
        How many failed, by status.
    lost : tuple of int
        The numbers of those without a line.
    closed : bool
        Whether the log is complete. If not, more calls may have been sent and lost.
    answers : dict of Release to int
        How many answers each release gave, in the order of their first.
    wrong : tuple of Call
        The answers by a release that was not right at any moment of the call.
    longest_gap : Gap or None
        The longest time between an answer and the next one; None if there are fewer than two.
    slowest : Call or None
        The answer that took longest; None if there is none.
    """

    sent: int
    answered: int
    failed: dict[str, int]
    lost: tuple[int, ...]
    closed: bool
    answers: dict[Release, int]
    wrong: tuple[Call, ...]
    longest_gap: Gap | None
    slowest: Call | None

    @property
    def faultless(self) -> bool:
        """Whether every call that was sent has its answer, and each by a release that was right."""
        return self.closed and self.answered == self.sent and not self.wrong

    def __str__(self) -> str:
        failures = ", ".join(f"{count} {status}" for status, count in self.failed.items())
        parts = [
            f"{self.sent} sent, {self.answered} answered",
            f"failed: {failures or 'none'}",
            f"lost: {len(self.lost) or 'none'}" + ("" if self.closed else " or more, for the log has no end"),
            f"answers by a release that Git did not say: {len(self.wrong) or 'none'}",
            "by " + ", ".join(f"{release.version} {count}" for release, count in self.answers.items()),
        ]
        if self.longest_gap:
            parts.append(f"longest gap {self.longest_gap.seconds:.3f} s")
        if self.slowest:
            parts.append(f"slowest answer {self.slowest.seconds:.3f} s")
        return "; ".join(parts)


def account(log: Log, right: Sequence[Said]) -> Account:
    """Return what became of a log's calls, given when which release was right."""
    answered = [call for call in log.calls if call.answered]
    seen = {call.number for call in log.calls}
    over = sorted(call.over for call in answered)
    gaps = (Gap(after - before, before) for before, after in pairwise(over))
    return Account(
        sent=len(log.numbers),
        answered=len(answered),
        failed=dict(Counter(call.status for call in log.calls if not call.answered)),
        lost=tuple(number for number in log.numbers if number not in seen),
        closed=log.closed,
        answers=dict(Counter(Release(call.version, call.digest) for call in answered)),
        wrong=tuple(call for call in answered if not _is_right(call, right)),
        longest_gap=max(gaps, default=None),
        slowest=max(answered, key=lambda call: call.seconds, default=None),
    )


def _is_right(call: Call, right: Sequence[Said]) -> bool:
    release = Release(call.version, call.digest)
    return any(
        each.release == release and each.begin <= call.over and call.sent <= each.end for each in right
    )


def counts(calls: Iterable[Call], begin: float, width: float, bins: int) -> dict[Release | None, list[int]]:
    """Count calls over time.

    Parameters
    ----------
    calls
        In any order.
    begin
        When the first bin begins, in Unix seconds.
    width
        How long each is, in seconds.
    bins
        How many there are. Calls that were over before or after them are not counted.

    Returns
    -------
    dict of Release or None to list of int
        For each release its answers, in each bin those that were over in it; for None the failures.
    """
    counted: dict[Release | None, list[int]] = {}
    for call in calls:
        place = math.floor((call.over - begin) / width)
        if 0 <= place < bins:
            key = Release(call.version, call.digest) if call.answered else None
            counted.setdefault(key, [0] * bins)[place] += 1
    return counted
