"""Every call is accounted for, and every answer held against what Git said."""

import math
from collections.abc import Sequence
from itertools import pairwise

import pytest

from tests.cluster.accounting import Change, Gap, Release, Said, account, counts, read_log, said
from tests.cluster.caller.call_log import Begin, Call, End, LogError, read

OLD, NEW, BAD = (Release(version, f"sha256:{version}") for version in ("1.0.0", "1.1.0", "1.2.0"))


def _call(number: int, sent: float, release: Release = OLD, seconds: float = 0.01) -> Call:
    return Call(number, sent, seconds, "OK", release.version, release.digest)


def _failure(number: int, sent: float, status: str = "UNAVAILABLE") -> Call:
    return Call(number, sent, 0.01, status, details="")


def _lines(calls: Sequence[Call], sent: int | None = None) -> list[str]:
    begin = Begin(0.0, "dns:///name:50051", rate=50.0, deadline=1.0, retries=False)
    end = [] if sent is None else [End(99.0, sent)]
    return [f"{entry}\n" for entry in (begin, *calls, *end)]


def test_what_a_caller_writes_is_what_is_read() -> None:
    begin = Begin(1760000000.25, "dns:///name:50051", rate=50.0, deadline=1.0, retries=True)
    details = 'failed to connect to "all"\naddresses, größer'
    entries = [
        begin,
        Call(2, 1760000000.5, 0.25, "UNAVAILABLE", details=details),
        Call(3, 1760000000.75, 0.25, "WRONG_ANSWER", details=""),
        Call(1, 1760000000.25, 1.25, "OK", "1.0.0", "sha256:0"),
        End(1760000002.5, 3),
    ]
    lines = [str(entry) for entry in entries]
    assert all("\n" not in line for line in lines)
    assert list(read(lines)) == entries


@pytest.mark.parametrize(
    "line",
    [
        "",
        "1 5.0 0.1 OK 1.0.0",
        "1 5.0 0.1 OK",
        "1 5.0 0.1 UNAVAILABLE failed",
        "one 5.0 0.1 OK 1.0.0 sha256:0",
        "end 5.0",
        "end 5.0 many",
        'begin 5.0 {"target": "x"}',
        "begin 5.0 []",
        "begin 5.0 {",
        "Traceback (most recent call last):",
    ],
)
def test_a_line_that_no_caller_writes_is_named(line: str) -> None:
    with pytest.raises(LogError, match="line 2 is none"):
        list(read(["end 5.0 0", line]))


def test_a_log_of_answers_alone_is_faultless() -> None:
    log = read_log(_lines([_call(2, 1.0), _call(1, 0.5), _call(3, 2.0)], sent=3))
    found = account(log, [Said(OLD, -math.inf)])
    assert (found.sent, found.answered, found.failed, found.lost) == (3, 3, {}, ())
    assert found.answers == {OLD: 3}
    assert found.faultless
    assert "failed: none; lost: none" in str(found)


def test_failures_are_counted_by_status() -> None:
    calls = [_call(1, 0.0), _failure(2, 1.0), _failure(3, 2.0, "DEADLINE_EXCEEDED"), _failure(4, 3.0)]
    found = account(read_log(_lines(calls, sent=4)), [Said(OLD, 0.0)])
    assert found.failed == {"UNAVAILABLE": 2, "DEADLINE_EXCEEDED": 1}
    assert (found.sent, found.answered, found.lost) == (4, 1, ())
    assert not found.faultless
    assert "failed: 2 UNAVAILABLE, 1 DEADLINE_EXCEEDED" in str(found)


def test_a_call_without_a_line_is_lost_also_at_the_end() -> None:
    found = account(read_log(_lines([_call(2, 0.0), _call(4, 1.0)], sent=6)), [Said(OLD, 0.0)])
    assert (found.sent, found.answered, found.lost) == (6, 2, (1, 3, 5, 6))
    assert not found.faultless


def test_a_log_without_an_end_proves_nothing() -> None:
    found = account(read_log(_lines([_call(1, 0.0)])), [Said(OLD, 0.0)])
    assert (found.sent, found.answered, found.lost, found.closed) == (1, 1, (), False)
    assert not found.faultless
    assert "or more, for the log has no end" in str(found)


def test_a_log_without_calls() -> None:
    log = read_log(_lines([], sent=0))
    found = account(log, [])
    assert (found.sent, found.longest_gap, found.slowest) == (0, None, None)
    assert log.between(0.0, 9.0).calls == ()


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (_lines([_call(1, 0.0), _call(1, 1.0)], sent=2), "call 1 has two lines"),
        (_lines([_call(3, 0.0)], sent=2), "2 calls were sent, but call 3 has a line"),
        (_lines([_call(1, 1.0), _call(2, 0.0)], sent=2), "the clock was set back"),
    ],
)
def test_a_log_that_no_caller_can_have_written_is_refused(lines: list[str], message: str) -> None:
    with pytest.raises(LogError, match=message):
        read_log(lines)


def test_parts_of_a_log_that_meet_have_each_call_once() -> None:
    calls = [_call(number, number / 10) for number in range(1, 100) if number not in (1, 30, 31, 98)]
    log = read_log(_lines(calls, sent=100))
    edges = [-math.inf, 0.2, 2.9, 2.95, 3.05, 3.1, 3.2, 7.0, 9.0, math.inf]
    parts = [log.between(begin, end) for begin, end in pairwise(edges)]
    accounts = [account(part, [Said(OLD, 0.0)]) for part in parts]
    assert sum(each.sent for each in accounts) == 100
    assert [number for each in accounts for number in each.lost] == [1, 30, 31, 98, 100]
    assert sum(each.answered for each in accounts) == len(calls)
    # Calls 30 and 31 are between the lines of 29, sent at 2.9, and of 32.
    assert account(log.between(2.9, 2.95), []).lost == (30, 31)


def test_during_a_rollout_both_releases_are_right_and_after_it_only_the_new_one() -> None:
    right = said(OLD, [Change(NEW, pushed=10.0, done=20.0)])
    assert right == [Said(OLD, -math.inf, 20.0), Said(NEW, 10.0)]
    calls = [
        _call(1, 9.0),
        _call(2, 9.5, NEW),  # nothing has been pushed
        _call(3, 9.995, NEW),  # pushed while it was under way
        _call(4, 15.0),
        _call(5, 15.5, NEW),
        _call(6, 19.995),  # under way when the last old pod went
        _call(7, 20.5),  # by a pod that is gone
        _call(8, 21.0, NEW),
        _call(9, 22.0, BAD),  # never said
    ]
    found = account(read_log(_lines(calls, sent=9)), right)
    assert [call.number for call in found.wrong] == [2, 7, 9]
    assert found.answered == 9
    assert not found.faultless


def test_a_version_is_not_enough_for_the_digest_to_be_right() -> None:
    other = Release(OLD.version, "sha256:other")
    found = account(read_log(_lines([_call(1, 0.0, other)], sent=1)), said(OLD, []))
    assert len(found.wrong) == 1


def test_a_release_that_never_came_up_leaves_the_old_one_right_until_its_revert_is_done() -> None:
    changes = [Change(BAD, pushed=10.0, done=None), Change(OLD, pushed=30.0, done=40.0)]
    right = said(OLD, changes)
    assert right == [Said(OLD, -math.inf, 40.0), Said(BAD, 10.0, 40.0), Said(OLD, 30.0)]
    # The same, and then a release that is still on its way.
    assert said(OLD, [*changes, Change(NEW, 50.0, None)])[2:] == [Said(OLD, 30.0), Said(NEW, 50.0)]


def test_changes_come_in_their_order() -> None:
    with pytest.raises(ValueError, match="order"):
        said(OLD, [Change(NEW, 20.0, 30.0), Change(OLD, 10.0, 15.0)])


def test_the_longest_gap_is_between_answers_and_the_slowest_is_one() -> None:
    calls = [
        _call(1, 1.0, seconds=0.5),
        _call(2, 1.1, seconds=0.01),
        _failure(3, 2.0),
        _call(4, 3.0, seconds=0.25),
        Call(5, 3.1, 9.0, "DEADLINE_EXCEEDED"),
    ]
    found = account(read_log(_lines(calls, sent=5)), [Said(OLD, 0.0)])
    assert found.longest_gap == Gap(1.75, 1.5)
    assert found.slowest == calls[0]


def test_calls_are_counted_when_they_are_over() -> None:
    calls = [
        _call(1, 9.98),
        _call(2, 9.995),
        _call(3, 10.4, NEW, seconds=0.2),
        _failure(4, 10.6),
        _call(5, 10.6),
        _call(6, 11.0),
    ]
    assert counts(calls, 10.0, 0.5, 2) == {OLD: [1, 1], NEW: [0, 1], None: [0, 1]}
