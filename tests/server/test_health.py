"""The state of health services: set, checked, listed and watched."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from grpc_health.v1 import health_pb2 as pb

from server.call import Call
from server.health import Health
from server.status import Code, StatusError

_UNKNOWN, _SERVING, _NOT_SERVING, _SERVICE_UNKNOWN = range(4)


def _request(name: str) -> bytes:
    data: bytes = pb.HealthCheckRequest(service=name).SerializeToString()
    return data


def _status(data: bytes) -> int:
    return int(pb.HealthCheckResponse.FromString(data).status)


def _watch(health: Health, name: str, call: Call) -> tuple[list[int], Callable[[], None]]:
    heard: list[int] = []
    return heard, health.watch(_request(name), call, lambda data: heard.append(_status(data)))


def test_names_begin_as_not_serving_and_are_set_one_by_one(call: Call) -> None:
    health = Health(["", "a", "b"])
    for name in ("", "a", "b"):
        assert _status(health.check(_request(name), call)) == _NOT_SERVING
    health.set(True, "", "b")
    assert [_status(health.check(_request(name), call)) for name in ("", "a", "b")] == [
        _SERVING,
        _NOT_SERVING,
        _SERVING,
    ]
    assert [health.serving(name) for name in ("", "a", "b", "c")] == [True, False, True, False]


def test_an_unknown_name_is_not_found_until_it_is_set(call: Call) -> None:
    health = Health(["a"])
    with pytest.raises(StatusError, match="no health service 'x', but: 'a'") as caught:
        health.check(_request("x"), call)
    assert caught.value.code is Code.NOT_FOUND
    health.set(True, "x")
    assert _status(health.check(_request("x"), call)) == _SERVING


def test_list_tells_every_name(call: Call) -> None:
    health = Health(["", "a"])
    health.set(True, "a")
    listed = pb.HealthListResponse.FromString(health.list(b"", call)).statuses
    assert {name: response.status for name, response in listed.items()} == {"": _NOT_SERVING, "a": _SERVING}


def test_watch_tells_the_state_now_and_whenever_it_is_set(call: Call) -> None:
    health = Health(["a", "b"])
    heard, unwatch = _watch(health, "a", call)
    others, _ = _watch(health, "b", call)
    assert heard == [_NOT_SERVING]
    health.set(True, "a", "b")
    health.set(False, "a")
    assert heard == [_NOT_SERVING, _SERVING, _NOT_SERVING]
    assert others == [_NOT_SERVING, _SERVING]
    unwatch()
    health.set(True, "a", "b")
    assert heard == [_NOT_SERVING, _SERVING, _NOT_SERVING]
    assert others == [_NOT_SERVING, _SERVING, _SERVING]


def test_watch_of_an_unknown_name_waits_for_it(call: Call) -> None:
    health = Health([])
    heard, _ = _watch(health, "later", call)
    health.set(True, "later")
    assert heard == [_SERVICE_UNKNOWN, _SERVING]


def test_unwatching_twice_does_no_harm(call: Call) -> None:
    _, unwatch = _watch(Health(["a"]), "a", call)
    unwatch()
    unwatch()


@pytest.mark.parametrize("method", ["check", "watch"])
def test_bytes_that_are_no_request_are_invalid(call: Call, method: str) -> None:
    health = Health(["a"])
    arguments = (b"\xff", call) if method == "check" else (b"\xff", call, lambda data: None)
    with pytest.raises(StatusError) as caught:
        getattr(health, method)(*arguments)
    assert caught.value.code is Code.INVALID_ARGUMENT


def test_watchers_that_come_and_go_while_states_change_hear_the_last_one(call: Call) -> None:
    health = Health(["a"])
    done = threading.Event()

    def come_and_go() -> bool:
        while not done.is_set():
            heard, unwatch = _watch(health, "a", call)
            unwatch()
            if not heard:
                return False
        return True

    stayed, _ = _watch(health, "a", call)
    with ThreadPoolExecutor(3) as pool:
        watchers = [pool.submit(come_and_go) for _ in range(3)]
        for number in range(2_000):
            health.set(number % 2 == 0, "a")
        health.set(True, "a")
        done.set()
        assert all(watcher.result() for watcher in watchers)
    assert len(stayed) == 2_002
    assert stayed[-1] == _SERVING
    assert len(health._watchers) == 1


def test_what_is_said_is_told_and_followed_by_another(call: Call) -> None:
    follower = Health(["a", "b"])
    teller = Health(["a", "b"], follower.follow)
    heard, _ = _watch(follower, "a", call)
    teller.set(True, "a", "models/c")
    teller.set(True, "b")
    teller.set(False, "a")
    # Who watches hears of each change, and of nothing else.
    assert heard == [_NOT_SERVING, _SERVING, _NOT_SERVING]
    assert [follower.serving(name) for name in ("a", "b", "models/c")] == [False, True, True]
