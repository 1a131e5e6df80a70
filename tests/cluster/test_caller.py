"""The caller accounts for every call, and what it finds when servers come and go."""

import fcntl
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.accounting import Change, account, read_log, said
from tests.cluster.caller.call_log import Begin, read

# Nobody listens there.
_NOBODY = "ipv4:127.0.0.1:1"
_RATE = "--rate=100"


def test_a_rollout_loses_no_call_and_every_answer_is_by_a_version_that_is_right(
    pods: Any, versions: dict[str, Path], start_caller: Callable[..., Any]
) -> None:
    old = [pods.start(versions["1.0.0"]) for _ in range(2)]
    caller = start_caller(pods.target, _RATE)
    caller.wait_for(" OK 1.0.0 ", 50)
    pushed = time.time()
    for pod in old:
        new = pods.start(versions["1.1.0"])
        pods.end(pod)
        caller.wait_for(" OK 1.1.0 ", 50)
    done = time.time()
    caller.wait_for(" OK 1.1.0 ", 50)
    log = caller.end()

    begin = next(read(caller.lines))
    assert isinstance(begin, Begin)
    assert (begin.target, begin.rate, begin.retries) == (pods.target, 100.0, False)
    before, after = old[0].release, new.release
    found = account(log, said(before, [Change(after, pushed, done)]))
    print(found)
    assert found.faultless, found
    assert found.sent == log.numbers[-1] > 200
    assert list(found.answers) == [before, after]
    # Had Git not said so, each answer of the new version would be a wrong one.
    unsaid = account(log, said(before, []))
    assert len(unsaid.wrong) == found.answers[after]


def test_servers_that_all_go_at_the_same_instant_lose_no_call_when_they_leave_first(
    pods: Any, versions: dict[str, Path], start_caller: Callable[..., Any]
) -> None:
    # The caller asks DNS when a connection has aged, and no sooner than 5 s after it last did. Until then it
    # knows none but servers that go: told so, it would have nobody to call.
    leaving = ("--leave-timeout", "8")
    old = [pods.start(versions["1.0.0"], *leaving) for _ in range(2)]
    caller = start_caller(pods.target, _RATE)
    caller.wait_for(" OK 1.0.0 ", 50)
    pushed = time.time()
    new = pods.replace(old, versions["1.1.0"], *leaving)
    done = time.time()
    caller.wait_for(" OK 1.1.0 ", 50)
    log = caller.end()

    assert all(any("LEAVING" in line for line in pod.log) for pod in old)
    before, after = old[0].release, new[0].release
    found = account(log, said(before, [Change(after, pushed, done)]))
    print(found)
    assert found.faultless, found
    assert list(found.answers) == [before, after]


def test_a_killed_server_fails_only_calls_in_flight_on_it_and_none_of_a_client_that_retries(
    pods: Any, versions: dict[str, Path], start_caller: Callable[..., Any]
) -> None:
    hit, other = pods.start(versions["1.0.0"]), pods.start(versions["1.1.0"])
    plain = start_caller(pods.target, _RATE, "--deadline=10")
    retrying = start_caller(pods.target, _RATE, "--deadline=10", "--retries")
    for caller in (plain, retrying):
        caller.wait_for(" OK 1.0.0 ", 20)
        caller.wait_for(" OK 1.1.0 ", 20)
    # Calls on it are in flight while it stands still, and so when it is killed.
    hit.process.send_signal(signal.SIGSTOP)
    stopped = time.time()
    time.sleep(0.3)
    hit.process.send_signal(signal.SIGKILL)
    killed = time.time()
    for caller in (plain, retrying):
        caller.wait_for(" OK 1.1.0 ", 50)
    logs = plain.end(), retrying.end()

    right = [*said(hit.release, []), *said(other.release, [])]
    without, with_retries = (account(log, right) for log in logs)
    print(without, with_retries, sep="\n")
    assert list(without.failed) == ["UNAVAILABLE"]
    assert not without.lost
    assert not without.wrong
    for call in logs[0].calls:
        if not call.answered:
            # It was on its way when the server stood still, which takes the system a moment.
            assert stopped - 0.1 < call.sent < killed + 0.1, call
            assert call.over > killed, call
            assert call.details
    assert with_retries.faultless, with_retries
    # Those that were in flight were made again.
    assert [call for call in logs[1].calls if call.sent < killed < call.over]


def test_where_nobody_answers_each_call_is_a_failure(start_caller: Callable[..., Any]) -> None:
    caller = start_caller(_NOBODY, "--rate=50")
    caller.wait_for("UNAVAILABLE", 20)
    log = caller.end()
    found = account(log, [])
    assert found.failed == {"UNAVAILABLE": found.sent}
    assert (found.answered, found.lost, found.closed) == (0, (), True)
    assert all("127.0.0.1:1" in call.details for call in log.calls)


def test_who_reads_the_log_slowly_delays_no_call() -> None:
    command = [sys.executable, "-m", "tests.cluster.caller", _NOBODY, "--rate=200"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as caller:
        assert caller.stdout is not None
        # Fewer than 60 lines find room in the pipe.
        fcntl.fcntl(caller.stdout, fcntl.F_SETPIPE_SZ, 4096)
        first = caller.stdout.readline()
        time.sleep(1.5)
        caller.terminate()
        time.sleep(0.5)
        log = read_log([first, *caller.stdout])
        assert caller.wait(10) == 0
    found = account(log, [])
    assert found.sent > 120
    assert found.closed
    assert not found.lost


def test_it_ends_where_nobody_reads_the_log() -> None:
    command = [sys.executable, "-m", "tests.cluster.caller", _NOBODY]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as caller:
        assert caller.stdout is not None
        assert caller.stdout.readline().startswith("begin ")
        caller.stdout.close()
        assert caller.wait(10) == 1


@pytest.mark.parametrize("wrong", ["--rate=0", "--rate=inf", "--deadline=-1", "--rate=much"])
def test_a_rate_or_a_deadline_that_is_none_is_refused(wrong: str) -> None:
    command = [sys.executable, "-m", "tests.cluster.caller", _NOBODY, wrong]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert f"{wrong.split('=')[1]!r} is not a number above 0" in done.stderr
