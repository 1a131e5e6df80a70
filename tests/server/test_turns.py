"""Work in turns, on a thread of its own."""

import math
import queue
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest

from server.call import Call, Work
from server.status import Code, StatusError
from server.turns import Turns

_LONG = 10.0


@pytest.fixture
def turns() -> Iterator[Turns]:
    started = Turns("turns")
    started.start()
    yield started
    assert started.stop(_LONG)


class Results(queue.SimpleQueue[bytes | BaseException]):
    """What work has come to."""

    def next(self) -> bytes | BaseException:
        return self.get(timeout=_LONG)


def _call() -> Call:
    return Call(math.inf, (), lambda: "nobody")


def _steps(count: int, log: list[str], name: str) -> Work:
    for number in range(count):
        log.append(f"{name}{number}")
        yield
    return name.encode()


def test_a_short_work_ends_before_a_long_one_that_came_before(turns: Turns) -> None:
    log: list[str] = []
    results = Results()
    hold = threading.Event()

    def holding() -> Work:
        hold.wait(_LONG)
        yield
        return b"held"

    turns.add(holding(), _call(), results.put)
    turns.add(_steps(100, log, "long"), _call(), results.put)
    turns.add(_steps(2, log, "short"), _call(), results.put)
    hold.set()
    assert [results.next() for _ in range(3)] == [b"held", b"short", b"long"]
    assert log[:6] == ["long0", "short0", "long1", "short1", "long2", "long3"]


def test_an_error_is_the_result_and_other_work_goes_on(turns: Turns) -> None:
    results = Results()
    error = StatusError(Code.NOT_FOUND, "none")

    def failing() -> Work:
        yield
        raise error

    turns.add(failing(), _call(), results.put)
    turns.add(_steps(3, [], "other"), _call(), results.put)
    assert results.next() is error
    assert results.next() == b"other"


def test_work_whose_caller_has_gone_is_closed_and_not_gone_on_with(turns: Turns) -> None:
    results = Results()
    entered, go = threading.Event(), threading.Event()
    closed: list[str] = []
    call = _call()

    def long() -> Work:
        try:
            entered.set()
            go.wait(_LONG)
            yield
            closed.append("gone on with")
        finally:
            closed.append("closed")
        return b""

    turns.add(long(), call, results.put)
    assert entered.wait(_LONG)
    call.cancelled = True
    go.set()
    result = results.next()
    assert isinstance(result, StatusError)
    assert result.code is Code.CANCELLED
    assert closed == ["closed"]


def test_a_result_that_cannot_be_handed_over_holds_up_nothing(
    turns: Turns, caplog: pytest.LogCaptureFixture
) -> None:
    results = Results()

    def refuse(_result: bytes | BaseException) -> None:
        raise RuntimeError("no operations")

    turns.add(_steps(1, [], "a"), _call(), refuse)
    turns.add(_steps(1, [], "b"), _call(), results.put)
    assert results.next() == b"b"
    assert "no operations" in caplog.text


def test_stop_ends_when_all_work_is_done() -> None:
    turns = Turns("turns")
    turns.start()
    results = Results()
    for name in "abc":
        turns.add(_steps(5, [], name), _call(), results.put)
    assert turns.stop(_LONG)
    assert [results.get_nowait() for _ in range(3)] == [b"a", b"b", b"c"]


_DYING = """
import logging, time
from server.turns import Turns

logging.basicConfig()
turns = Turns("turns")
turns._take_turns = lambda: [][0]
turns.start()
time.sleep(30)
print("still here")
"""


def test_a_process_whose_turns_have_died_ends_and_says_why() -> None:
    ran = subprocess.run(
        [sys.executable, "-c", _DYING], capture_output=True, text=True, timeout=60, check=False
    )
    assert (ran.returncode, ran.stdout) == (1, "")
    assert "the thread 'turns' has ended" in ran.stderr
