"""The front on grpcio's completion queue, called by grpcio's own clients.

It stands on an interface of grpcio that is not public: what it relies upon is held here.
"""

import gc
import json
import logging
import math
import queue
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2

from server import grpcio_front
from server.call import Call, Exchange, Method, Subscription, Unary, Work
from server.calls import Calls
from server.grpcio_front import GrpcioFront
from server.status import Code, StatusError, exhausted, invalid_request
from server.store import Store

_ALONE = {grpcio_front._REQUEST}
_LONG = 10.0
# Of the addresses of localhost one may be free at a port, and another one somebody else's.
_ADDRESS = "127.0.0.1"


def _echo(data: bytes, _call: Call) -> bytes:
    return data


def _eventually(true: Callable[[], bool], seconds: float = _LONG) -> bool:
    deadline = time.monotonic() + seconds
    while not true():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.005)
    return True


class News:
    """What a subscription is about: keeps what sends to each subscriber, and counts those who have left."""

    def __init__(self, first: bytes | None = b"first"):
        self.sends: list[Callable[[bytes], None]] = []
        self.left = 0
        self._first = first
        self.method = Subscription(self._subscribe)

    def _subscribe(self, _data: bytes, _call: Call, send: Callable[[bytes], None]) -> Callable[[], None]:
        self.sends.append(send)
        if self._first is not None:
            send(self._first)
        return self._leave

    def _leave(self) -> None:
        self.left += 1


@pytest.fixture
def start() -> Iterator[Callable[..., GrpcioFront]]:
    """Return a function that starts a front. After the test nothing may be left open in any."""
    fronts: list[GrpcioFront] = []

    def start(
        methods: Mapping[str, Method],
        *options: tuple[str, int],
        exchange_age: float = math.inf,
        calls: Calls | None = None,
    ) -> GrpcioFront:
        front = GrpcioFront(
            "front", methods, _ADDRESS + ":0", options, exchange_age=exchange_age, calls=calls
        )
        front.start()
        fronts.append(front)
        return front

    yield start
    for front in fronts:
        if front._thread.is_alive():
            assert _eventually(lambda front=front: front._open == _ALONE), front._open
            front.stop(5)
        assert not front._open
        assert not front._exchanges
        assert not front._thread.is_alive()
        assert not front._turns._thread.is_alive()


@contextmanager
def _channel(front: GrpcioFront, *options: tuple[str, Any]) -> Iterator[grpc.Channel]:
    # A pool of its own: a connection of its own.
    with grpc.insecure_channel(
        f"{_ADDRESS}:{front.port}", (("grpc.use_local_subchannel_pool", 1), *options)
    ) as channel:
        yield channel


def _error(call: Callable[[], Any]) -> Any:
    with pytest.raises(grpc.RpcError) as caught:
        call()
    return caught.value


def _raise(error: BaseException) -> bytes:
    raise error


# One request, one response.


@pytest.mark.parametrize("message", [b"", b"x", bytes(1_000_000)], ids=["empty", "short", "long"])
def test_unary_answers_the_handlers_bytes(start: Callable[..., GrpcioFront], message: bytes) -> None:
    front = start({"/t/Echo": Unary(_echo)})
    with _channel(front) as channel:
        assert channel.unary_unary("/t/Echo")(message, timeout=_LONG) == message


def test_unary_takes_compressed_requests(start: Callable[..., GrpcioFront]) -> None:
    front = start({"/t/Echo": Unary(_echo)})
    with _channel(front) as channel:
        echo = channel.unary_unary("/t/Echo")
        assert echo(bytes(10_000), timeout=_LONG, compression=grpc.Compression.Gzip) == bytes(10_000)


def test_errors_come_with_code_message_and_details(start: Callable[..., GrpcioFront]) -> None:
    front = start({"/t/Fail": Unary(lambda _d, _c: _raise(invalid_request("f", "R", "naïve 100 % \n 漢")))})
    with _channel(front) as channel:
        error = _error(lambda: channel.unary_unary("/t/Fail")(b"", timeout=_LONG))
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert error.details() == "naïve 100 % \n 漢"
    status = status_pb2.Status.FromString(dict(error.trailing_metadata())["grpc-status-details-bin"])
    assert (status.code, status.message) == (3, "naïve 100 % \n 漢")
    bad_request = error_details_pb2.BadRequest()
    assert status.details[0].Unpack(bad_request)
    assert [(v.field, v.reason) for v in bad_request.field_violations] == [("f", "R")]


@pytest.mark.parametrize(
    "error", [RuntimeError("secret"), SystemExit("secret"), GeneratorExit("secret")], ids=repr
)
def test_a_fault_is_internal_leaks_nothing_and_the_server_goes_on(
    start: Callable[..., GrpcioFront], caplog: pytest.LogCaptureFixture, error: BaseException
) -> None:
    front = start({"/t/Fault": Unary(lambda _d, _c: _raise(error)), "/t/Echo": Unary(_echo)})
    with _channel(front) as channel:
        seen = _error(lambda: channel.unary_unary("/t/Fault")(b"", timeout=_LONG))
        assert (seen.code(), seen.details()) == (
            grpc.StatusCode.INTERNAL,
            "a fault of the server; its log has more",
        )
        assert not seen.trailing_metadata()
        assert "secret" in caplog.text
        assert channel.unary_unary("/t/Echo")(b"x", timeout=_LONG) == b"x"


@pytest.mark.parametrize("answer", [None, "text", 7, bytearray(b"x"), StatusError(Code.NOT_FOUND, "no")])
@pytest.mark.parametrize("kind", [Unary, Exchange])
def test_an_answer_that_is_no_bytes_is_a_fault_of_that_call_alone(
    start: Callable[..., GrpcioFront], kind: type[Unary | Exchange], answer: Any
) -> None:
    front = start({"/t/Wrong": kind(lambda _d, _c: answer), "/t/Echo": Unary(_echo)})
    with _channel(front) as channel:
        wrong = channel.stream_stream("/t/Wrong")
        assert _error(lambda: list(wrong(iter([b""]), timeout=_LONG))).code() is grpc.StatusCode.INTERNAL
        assert channel.unary_unary("/t/Echo")(b"x", timeout=_LONG) == b"x"


class _OwnError(ValueError):
    """One that nobody else raises."""


def _faulty(_data: bytes, _call: Call) -> bytes:
    raise _OwnError("secret")


def _refused(data: bytes, call: Call) -> bytes:
    try:
        return _faulty(data, call)
    except ValueError as error:
        raise StatusError(Code.INVALID_ARGUMENT, "no") from error


def _refused_work(data: bytes, call: Call) -> Work:
    yield
    return _refused(data, call)


@pytest.mark.parametrize("kind", [Unary, Exchange])
@pytest.mark.parametrize("handle", [_refused, _refused_work, _faulty])
def test_a_failed_call_is_forgotten_without_a_search_for_cycles(
    start: Callable[..., GrpcioFront],
    monkeypatch: pytest.MonkeyPatch,
    kind: type[Unary | Exchange],
    handle: Callable[..., Any],
) -> None:
    # The tests' own handlers keep the faults that are logged.
    monkeypatch.setattr(grpcio_front._log, "disabled", True)
    front = start({"/t/Fail": kind(handle)})

    def kept() -> Counter[str]:
        return Counter(type(each).__name__ for each in gc.get_objects() if type(each) in (Call, _OwnError))

    gc.collect()
    gc.disable()
    try:
        # What other tests have left.
        before = kept()
        with _channel(front) as channel:
            fail = channel.stream_stream("/t/Fail")
            for _ in range(20):
                _error(lambda: list(fail(iter([b""]), timeout=_LONG)))
        assert _eventually(lambda: front._open == _ALONE)
        found = kept() - before
        # The last may still be in a variable of the front's loop.
        assert max(found.values(), default=0) <= 1, found
    finally:
        gc.enable()


def test_an_unknown_method_is_unimplemented(start: Callable[..., GrpcioFront]) -> None:
    front = start({"/t/Echo": Unary(_echo)})
    with _channel(front) as channel:
        error = _error(lambda: channel.unary_unary("/t/Ecko")(b"", timeout=_LONG))
        assert (error.code(), error.details()) == (grpc.StatusCode.UNIMPLEMENTED, "no method /t/Ecko")
        error = _error(lambda: list(channel.stream_stream("/t/Ecko")(iter([b"", b""]), timeout=_LONG)))
        assert error.code() is grpc.StatusCode.UNIMPLEMENTED


def test_call_has_metadata_deadline_and_peer(start: Callable[..., GrpcioFront]) -> None:
    calls: list[tuple[Any, float, str]] = []

    def note(_data: bytes, call: Call) -> bytes:
        calls.append((list(call.metadata), call.deadline, call.peer()))
        return b""

    front = start({"/t/Note": Unary(note)})
    with _channel(front) as channel:
        unary = channel.unary_unary("/t/Note")
        unary(b"", timeout=60, metadata=(("team", "risk"), ("trace-bin", b"\x00\xff")))
        unary(b"")
    (metadata, deadline, peer), (_, none, _) = calls
    assert ("team", "risk") in metadata
    assert ("trace-bin", b"\x00\xff") in metadata
    assert 50 < deadline - time.time() < 61
    assert none > time.time() + 1e9
    assert isinstance(peer, str)
    assert peer.startswith(("ipv4:", "ipv6:"))


def test_an_oversized_request_is_refused_and_the_error_says_both_sizes(
    start: Callable[..., GrpcioFront],
) -> None:
    front = start({"/t/Echo": Unary(_echo)}, ("grpc.max_receive_message_length", 1000))
    with _channel(front) as channel:
        echo = channel.unary_unary("/t/Echo")
        assert len(echo(bytes(1000), timeout=_LONG)) == 1000
        error = _error(lambda: echo(bytes(1001), timeout=_LONG))
        assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert "1001" in error.details()
        assert "1000" in error.details()
        error = _error(lambda: echo(bytes(100_000), timeout=_LONG, compression=grpc.Compression.Gzip))
        assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert echo(b"x", timeout=_LONG) == b"x"


def test_many_calls_at_once_each_get_their_own_answer(start: Callable[..., GrpcioFront]) -> None:
    front = start({"/t/Echo": Unary(lambda data, _call: data * 2)})
    channels = [
        grpc.insecure_channel(f"{_ADDRESS}:{front.port}", (("grpc.use_local_subchannel_pool", 1),))
        for _ in range(4)
    ]
    try:
        stubs = [channel.unary_unary("/t/Echo") for channel in channels]
        messages = [b"%d" % number for number in range(1_000)]
        futures = [stubs[i % 4].future(message, timeout=60) for i, message in enumerate(messages)]
        assert [future.result() for future in futures] == [message * 2 for message in messages]
    finally:
        for channel in channels:
            channel.close()


class _Burst:
    """Holds the front's thread in a first call, until more have arrived: those are one burst."""

    def __init__(self) -> None:
        self.entered, self.go = threading.Event(), threading.Event()

    def hold(self, _data: bytes, _call: Call) -> bytes:
        self.entered.set()
        self.go.wait(_LONG)
        return b"held"


def test_a_burst_of_more_than_64_with_faults_in_it_answers_every_call(
    start: Callable[..., GrpcioFront],
) -> None:
    burst = _Burst()

    def picky(data: bytes, _call: Call) -> Any:
        number = int(data)
        if number % 7 == 0:
            raise RuntimeError("fault")
        if number % 7 == 1:
            raise StatusError(Code.NOT_FOUND, "none")
        return None if number % 7 == 2 else data

    front = start({"/t/Hold": Unary(burst.hold), "/t/Picky": Unary(picky)})
    with _channel(front) as channel:
        held = channel.unary_unary("/t/Hold").future(b"", timeout=60)
        assert burst.entered.wait(_LONG)
        picked = channel.unary_unary("/t/Picky")
        futures = [picked.future(b"%d" % number, timeout=60) for number in range(200)]
        time.sleep(0.2)
        burst.go.set()
        assert held.result() == b"held"
        for number, future in enumerate(futures):
            expected = {
                0: grpc.StatusCode.INTERNAL,
                1: grpc.StatusCode.NOT_FOUND,
                2: grpc.StatusCode.INTERNAL,
            }
            assert future.code() is expected.get(number % 7, grpc.StatusCode.OK)
            assert number % 7 <= 2 or future.result() == b"%d" % number


def test_thousands_of_calls_that_wait_are_all_answered(start: Callable[..., GrpcioFront]) -> None:
    burst = _Burst()
    front = start({"/t/Hold": Unary(burst.hold), "/t/Echo": Unary(_echo)})
    with _channel(front) as channel:
        held = channel.unary_unary("/t/Hold").future(b"", timeout=60)
        assert burst.entered.wait(_LONG)
        futures = [channel.unary_unary("/t/Echo").future(b"x", timeout=60) for _ in range(2_500)]
        time.sleep(1)
        burst.go.set()
        assert held.result() == b"held"
        assert {future.code() for future in futures} == {grpc.StatusCode.OK}


def test_an_answer_that_cannot_be_sent_costs_no_other_call_of_its_burst_an_answer(
    start: Callable[..., GrpcioFront], caplog: pytest.LogCaptureFixture
) -> None:
    burst = _Burst()
    unsendable = StatusError(Code.NOT_FOUND, "a lone surrogate: \ud800")
    front = start(
        {
            "/t/Hold": Unary(burst.hold),
            "/t/Echo": Unary(_echo),
            "/t/Unsendable": Unary(lambda _d, _c: _raise(unsendable)),
        }
    )
    with _channel(front) as channel:
        held = channel.unary_unary("/t/Hold").future(b"", timeout=60)
        assert burst.entered.wait(_LONG)
        futures = [
            channel.unary_unary(path).future(b"x", timeout=60)
            for path in ["/t/Echo", "/t/Unsendable", "/t/Echo", "/t/Unsendable", "/t/Echo"]
        ]
        time.sleep(0.2)
        burst.go.set()
        assert held.result() == b"held"
        codes = [future.code() for future in futures]
    ok, fault = grpc.StatusCode.OK, grpc.StatusCode.INTERNAL
    assert codes == [ok, fault, ok, fault, ok]
    assert "fault while sending an answer" in caplog.text


class _Refusing:
    """Lets the C core refuse some of the front's operations, as it may."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch):
        self.refuse = False
        start = grpcio_front._start

        def refusing(call: Any, operations: Any, then: Any) -> None:
            if self.refuse:
                raise RuntimeError("the C core starts no operations: error 1")
            start(call, operations, then)

        monkeypatch.setattr(grpcio_front, "_start", refusing)


@pytest.mark.parametrize("path", ["/t/Unary", "/t/Exchange", "/t/Subscription"])
def test_a_call_whose_operations_cannot_start_ends_and_the_server_goes_on(
    start: Callable[..., GrpcioFront], monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    refusing = _Refusing(monkeypatch)
    methods = {"/t/Unary": Unary(_echo), "/t/Exchange": Exchange(_echo), "/t/Subscription": News().method}
    front = start(methods)
    with _channel(front) as channel:
        assert channel.unary_unary("/t/Unary")(b"x", timeout=_LONG) == b"x"
        refusing.refuse = True
        call = channel.stream_stream(path)(iter([b"x"]), timeout=_LONG)
        assert _error(lambda: list(call)).code() is not grpc.StatusCode.DEADLINE_EXCEEDED
        refusing.refuse = False
        assert channel.unary_unary("/t/Unary")(b"x", timeout=_LONG) == b"x"


def test_an_answer_whose_operations_cannot_start_ends_its_call(
    start: Callable[..., GrpcioFront], monkeypatch: pytest.MonkeyPatch
) -> None:
    refusing = _Refusing(monkeypatch)

    def refuse(data: bytes, _call: Call) -> bytes:
        refusing.refuse = data == b"refuse"
        return data

    front = start({"/t/Refuse": Unary(refuse)})
    with _channel(front) as channel:
        unary = channel.unary_unary("/t/Refuse")
        assert _error(lambda: unary(b"refuse", timeout=_LONG)).code() is grpc.StatusCode.INTERNAL
        refusing.refuse = False
        assert unary(b"x", timeout=_LONG) == b"x"


def test_a_client_that_sends_no_message_is_told_so(start: Callable[..., GrpcioFront]) -> None:
    front = start({"/t/Echo": Unary(_echo), "/t/Watch": News().method})
    with _channel(front) as channel:
        for path in ("/t/Echo", "/t/Watch"):
            error = _error(lambda path=path: list(channel.stream_stream(path)(iter([]), timeout=_LONG)))
            assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
            assert "without a request" in error.details()


def test_a_call_that_ends_before_its_message_counts_none_and_who_goes_has_cancelled_it(
    start: Callable[..., GrpcioFront],
) -> None:
    store = Store()
    front = start({"/t/Echo": Unary(_echo), "/t/Watch": News().method}, calls=Calls(store))

    def counted(name: str, **labels: str) -> int:
        return sum(
            cells[0]
            for key, cells in store.read().items()
            if key.name == name and labels.items() <= dict(key.labels).items()
        )

    sent: queue.SimpleQueue[None] = queue.SimpleQueue()
    with _channel(front) as channel:
        for number, path in enumerate(("/t/Echo", "/t/Watch"), 1):
            call = channel.stream_stream(path)(iter(sent.get, None), timeout=60)
            assert _eventually(lambda number=number: counted("grpc_server_started_total") == 2 * number - 1)
            call.cancel()
            sent.put(None)
            assert _eventually(lambda: front._open == _ALONE)
            _error(lambda path=path: list(channel.stream_stream(path)(iter([]), timeout=_LONG)))
            assert _eventually(lambda: front._open == _ALONE)
    for method in ("Echo", "Watch"):
        for code in ("Canceled", "InvalidArgument"):
            assert counted("grpc_server_handled_total", grpc_method=method, grpc_code=code) == 1
    assert counted("grpc_server_msg_received_total") == counted("grpc_server_msg_sent_total") == 0


def test_clients_that_cancel_leave_nothing_behind(start: Callable[..., GrpcioFront]) -> None:
    burst = _Burst()
    front = start({"/t/Hold": Unary(burst.hold), "/t/Echo": Unary(_echo), "/t/Exchange": Exchange(_echo)})
    with _channel(front) as channel:
        held = channel.unary_unary("/t/Hold").future(b"", timeout=60)
        assert burst.entered.wait(_LONG)
        futures = [channel.unary_unary("/t/Echo").future(b"x", timeout=60) for _ in range(100)]
        requests: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        exchange = channel.stream_stream("/t/Exchange")(iter(requests.get, None), timeout=60)
        requests.put(b"1")
        for future in (held, *futures):
            future.cancel()
        burst.go.set()
        assert next(exchange) == b"1"
        exchange.cancel()
        assert _eventually(lambda: front._open == _ALONE)
        assert channel.unary_unary("/t/Echo")(b"x", timeout=_LONG) == b"x"
        requests.put(None)  # type: ignore[arg-type] - ends the client's own thread


_VANISHING = """
import os, sys, grpc
channel = grpc.insecure_channel(sys.argv[1])
calls = [channel.unary_unary("/t/Hold").future(b"") for _ in range(20)]
watch = channel.unary_stream("/t/Watch")(b"")
next(watch)
print("here", flush=True)
sys.stdin.read(1)
os._exit(9)
"""


def test_a_client_that_vanishes_leaves_nothing_behind(start: Callable[..., GrpcioFront]) -> None:
    watched = News()
    burst = _Burst()
    front = start({"/t/Hold": Unary(burst.hold), "/t/Watch": watched.method, "/t/Echo": Unary(_echo)})
    client = subprocess.Popen(
        [sys.executable, "-c", _VANISHING, f"{_ADDRESS}:{front.port}"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        assert burst.entered.wait(_LONG)
        burst.go.set()
        assert client.stdout is not None
        assert client.stdin is not None
        assert client.stdout.readline() == b"here\n"
    finally:
        client.communicate(b"x", timeout=_LONG)
    assert _eventually(lambda: front._open == _ALONE)
    assert watched.left == 1
    with _channel(front) as channel:
        assert channel.unary_unary("/t/Echo")(b"x", timeout=_LONG) == b"x"


def test_what_is_no_http2_does_no_harm(start: Callable[..., GrpcioFront]) -> None:
    front = start({"/t/Echo": Unary(_echo)})
    for junk in (
        b"",
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        bytes(1000),
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\xff",
    ):
        with socket.create_connection((_ADDRESS, front.port)) as connection:
            connection.sendall(junk)
    with _channel(front) as channel:
        assert channel.unary_unary("/t/Echo")(b"x", timeout=_LONG) == b"x"


# Many requests, each with its response.


def test_exchange_answers_in_order_and_ends_with_the_clients_half(start: Callable[..., GrpcioFront]) -> None:
    front = start({"/t/Exchange": Exchange(lambda data, _call: data * 2)})
    with _channel(front) as channel:
        requests = [b"%d" % number for number in range(300)]
        call = channel.stream_stream("/t/Exchange")(iter(requests), timeout=60)
        assert list(call) == [request * 2 for request in requests]
        assert call.code() is grpc.StatusCode.OK
        assert list(channel.stream_stream("/t/Exchange")(iter([]), timeout=_LONG)) == []


def test_exchange_reads_the_next_request_when_the_last_is_answered(start: Callable[..., GrpcioFront]) -> None:
    front = start({"/t/Exchange": Exchange(_echo)})
    with _channel(front) as channel:
        requests: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        call = channel.stream_stream("/t/Exchange")(iter(requests.get, None), timeout=60)
        for number in range(5):
            requests.put(b"%d" % number)
            assert next(call) == b"%d" % number
        requests.put(None)
        assert list(call) == []


@pytest.mark.parametrize("fault", [False, True])
def test_an_error_ends_an_exchange_after_the_answers_before_it(
    start: Callable[..., GrpcioFront], fault: bool
) -> None:
    def picky(data: bytes, _call: Call) -> bytes:
        if data == b"3":
            raise RuntimeError("secret") if fault else invalid_request("f", "R", "three")
        return data

    front = start({"/t/Exchange": Exchange(picky)})
    with _channel(front) as channel:
        call = channel.stream_stream("/t/Exchange")(iter([b"1", b"2", b"3", b"4"]), timeout=_LONG)
        answers: list[bytes] = []
        error = _error(lambda: answers.extend(call))
        assert answers == [b"1", b"2"]
        expected = grpc.StatusCode.INTERNAL if fault else grpc.StatusCode.INVALID_ARGUMENT
        assert error.code() is expected
        assert "secret" not in error.details()


def test_exchange_does_not_read_from_who_does_not_read(start: Callable[..., GrpcioFront]) -> None:
    read = 0

    def large(_data: bytes, _call: Call) -> bytes:
        nonlocal read
        read += 1
        return bytes(1_000_000)

    front = start({"/t/Exchange": Exchange(large)})
    with _channel(front, ("grpc.max_receive_message_length", -1)) as channel:
        call = channel.stream_stream("/t/Exchange")(iter([b""] * 200), timeout=60)
        assert len(next(call)) == 1_000_000
        time.sleep(0.5)
        assert read < 100
        call.cancel()


def test_an_exchange_ends_when_it_has_come_of_age_and_others_go_on(start: Callable[..., GrpcioFront]) -> None:
    front = start({"/t/Exchange": Exchange(_echo), "/t/Echo": Unary(_echo)}, exchange_age=0.4)
    with _channel(front) as channel:
        requests: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        begun = time.monotonic()
        call = channel.stream_stream("/t/Exchange")(iter(requests.get, None), timeout=60)
        requests.put(b"1")
        assert next(call) == b"1"
        error = _error(lambda: next(call))
        assert 0.3 < time.monotonic() - begun < _LONG
        assert (error.code(), error.details()) == (
            grpc.StatusCode.UNAVAILABLE,
            "the stream has come of age: open another, and send again what was not answered",
        )
        requests.put(None)
        assert list(channel.stream_stream("/t/Exchange")(iter([b"2"]), timeout=60)) == [b"2"]
        assert channel.unary_unary("/t/Echo")(b"x", timeout=_LONG) == b"x"


def test_an_exchange_that_comes_of_age_without_a_pause_has_answered_from_the_first_on(
    start: Callable[..., GrpcioFront],
) -> None:
    front = start({"/t/Exchange": Exchange(lambda data, _call: data * 2)}, exchange_age=0.3)
    requests = iter(b"%d" % number for number in range(10_000_000))
    with _channel(front) as channel:
        call = channel.stream_stream("/t/Exchange")(requests, timeout=60)
        answers: list[bytes] = []
        assert _error(lambda: answers.extend(call)).code() is grpc.StatusCode.UNAVAILABLE
    assert len(answers) > 10
    assert answers == [b"%d" % number * 2 for number in range(len(answers))]


def test_what_is_in_hand_when_an_exchange_comes_of_age_or_the_front_stops_is_answered(
    start: Callable[..., GrpcioFront],
) -> None:
    burst = _Burst()

    def long(_data: bytes, _call: Call) -> Work:
        yield
        burst.hold(b"", _call)
        return b"done"

    for age in (0.2, math.inf):
        burst.entered.clear()
        burst.go.clear()
        front = start({"/t/Long": Exchange(long)}, exchange_age=age)
        with _channel(front) as channel:
            call = channel.stream_stream("/t/Long")(iter([b"1", b"2"]), timeout=60)
            assert burst.entered.wait(_LONG)
            stopping = threading.Thread(target=front.stop, args=(_LONG,))
            if age == math.inf:
                stopping.start()
            time.sleep(0.4)
            burst.go.set()
            assert next(call) == b"done"
            assert _error(lambda call=call: next(call)).code() is grpc.StatusCode.UNAVAILABLE
        if age == math.inf:
            stopping.join(_LONG)
            assert not stopping.is_alive()


def test_stop_ends_exchanges_at_once(start: Callable[..., GrpcioFront]) -> None:
    front = start({"/t/Exchange": Exchange(_echo)})
    with _channel(front) as channel:
        requests: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        call = channel.stream_stream("/t/Exchange")(iter(requests.get, None), timeout=60)
        requests.put(b"1")
        assert next(call) == b"1"
        begun = time.monotonic()
        front.stop(60)
        assert time.monotonic() - begun < _LONG
        error = _error(lambda: next(call))
        assert (error.code(), error.details()) == (
            grpc.StatusCode.UNAVAILABLE,
            "the server stops: call another",
        )
        requests.put(None)


# What takes long.


def _double(data: bytes, _call: Call) -> Work:
    yield
    yield
    return data * 2


@pytest.mark.parametrize("kind", [Unary, Exchange])
def test_work_answers_like_a_handler(start: Callable[..., GrpcioFront], kind: type[Unary | Exchange]) -> None:
    front = start({"/t/Double": kind(_double)})
    with _channel(front) as channel:
        double = channel.stream_stream("/t/Double")
        assert list(double(iter([b"x"]), timeout=_LONG)) == [b"xx"]
        if kind is Exchange:
            requests = [b"%d" % number for number in range(200)]
            assert list(double(iter(requests), timeout=60)) == [request * 2 for request in requests]


def test_work_holds_up_no_other_call(start: Callable[..., GrpcioFront]) -> None:
    burst = _Burst()

    def long(data: bytes, call: Call) -> Work:
        yield
        return burst.hold(data, call)

    front = start({"/t/Long": Unary(long), "/t/Echo": Unary(_echo)})
    with _channel(front) as channel:
        future = channel.unary_unary("/t/Long").future(b"", timeout=60)
        assert burst.entered.wait(_LONG)
        for _ in range(50):
            assert channel.unary_unary("/t/Echo")(b"x", timeout=_LONG) == b"x"
        assert not future.done()
        burst.go.set()
        assert future.result() == b"held"


@pytest.mark.parametrize("step", [1, 2])
@pytest.mark.parametrize("kind", [Unary, Exchange])
def test_works_errors_are_the_calls_in_any_step(
    start: Callable[..., GrpcioFront], kind: type[Unary | Exchange], step: int
) -> None:
    errors = {
        b"status": exhausted("full", 0.25),
        b"fault": RuntimeError("secret"),
    }

    def failing(data: bytes, _call: Call) -> Work:
        if step == 2:
            yield
        if data in errors:
            raise errors[data]
        yield
        return "text"  # type: ignore[return-value] - a fault

    front = start({"/t/Failing": kind(failing)})
    with _channel(front) as channel:
        call = channel.stream_stream("/t/Failing")
        error = _error(lambda: list(call(iter([b"status"]), timeout=_LONG)))
        assert (error.code(), error.details()) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "full")
        trailers = dict(error.trailing_metadata())
        assert trailers["grpc-retry-pushback-ms"] == "250"
        status = status_pb2.Status.FromString(trailers["grpc-status-details-bin"])
        retry = error_details_pb2.RetryInfo()
        assert status.details[0].Unpack(retry)
        assert retry.retry_delay.ToMilliseconds() == 250
        for data in (b"fault", b"text"):
            error = _error(lambda data=data: list(call(iter([data]), timeout=_LONG)))
            assert error.code() is grpc.StatusCode.INTERNAL
            assert "secret" not in error.details()


def test_a_client_that_says_when_it_retries_obeys_the_server(start: Callable[..., GrpcioFront]) -> None:
    calls: list[float] = []

    def full(_data: bytes, _call: Call) -> bytes:
        calls.append(time.monotonic())
        if len(calls) == 1:
            raise exhausted("full", 0.7)
        return b"room"

    front = start({"/t/Full": Unary(full)})
    policy = {
        "maxAttempts": 3,
        "initialBackoff": "0.01s",
        "maxBackoff": "0.01s",
        "backoffMultiplier": 1,
        "retryableStatusCodes": ["RESOURCE_EXHAUSTED"],
    }
    config = json.dumps({"methodConfig": [{"name": [{}], "retryPolicy": policy}]})
    with _channel(front, ("grpc.service_config", config)) as channel:
        assert channel.unary_unary("/t/Full")(b"", timeout=_LONG) == b"room"
    assert calls[1] - calls[0] > 0.5


@pytest.mark.parametrize("kind", [Unary, Exchange])
def test_work_is_given_up_when_its_caller_goes(
    start: Callable[..., GrpcioFront], kind: type[Unary | Exchange]
) -> None:
    entered, closed = threading.Event(), threading.Event()
    steps = 0

    def long(_data: bytes, _call: Call) -> Work:
        nonlocal steps
        try:
            while steps < 2_000:
                yield
                steps += 1
                entered.set()
                time.sleep(0.01)
            return b"done"
        finally:
            closed.set()

    front = start({"/t/Long": kind(long)})
    with _channel(front) as channel:
        call = channel.stream_stream("/t/Long")(iter([b""]), timeout=60)
        assert entered.wait(_LONG)
        call.cancel()
        assert closed.wait(_LONG)
    assert steps < 2_000
    assert _eventually(lambda: front._open == _ALONE)


@pytest.mark.parametrize("when", ["at the start", "at the end"])
@pytest.mark.parametrize("kind", [Unary, Exchange])
def test_work_whose_operations_cannot_start_ends_its_call(
    start: Callable[..., GrpcioFront],
    monkeypatch: pytest.MonkeyPatch,
    kind: type[Unary | Exchange],
    when: str,
) -> None:
    refusing = _Refusing(monkeypatch)
    closed = threading.Event()

    def long(data: bytes, _call: Call) -> Work:
        try:
            refusing.refuse = data == b"refuse" and when == "at the start"
            yield
            refusing.refuse = data == b"refuse"
            return b"done"
        finally:
            closed.set()

    front = start({"/t/Long": kind(long), "/t/Echo": Unary(_echo)})
    with _channel(front) as channel:
        call = channel.stream_stream("/t/Long")(iter([b"refuse"]), timeout=_LONG)
        assert _error(lambda: list(call)).code() is grpc.StatusCode.INTERNAL
        assert closed.is_set()
        refusing.refuse = False
        assert channel.unary_unary("/t/Echo")(b"x", timeout=_LONG) == b"x"


# One request, and messages whenever there is news.


def test_subscription_sends_what_comes_in_order(start: Callable[..., GrpcioFront]) -> None:
    news = News()
    front = start({"/t/Watch": news.method})
    with _channel(front) as channel:
        call = channel.unary_stream("/t/Watch")(b"", timeout=60)
        assert next(call) == b"first"
        for number in range(20):
            news.sends[0](b"%d" % number)
            assert next(call) == b"%d" % number
        call.cancel()
        assert _eventually(lambda: news.left == 1)


def test_a_slow_subscriber_gets_the_newest_message_last(start: Callable[..., GrpcioFront]) -> None:
    news = News()
    front = start({"/t/Watch": news.method})
    with _channel(front, ("grpc.max_receive_message_length", -1)) as channel:
        call = channel.unary_stream("/t/Watch")(b"", timeout=60)
        assert _eventually(lambda: bool(news.sends))
        for number in range(300):
            news.sends[0](b"%04d" % number + bytes(100_000))
        seen = []
        for message in call:
            seen.append(message[:4])
            if seen[-1] == b"0299":
                break
        assert len(seen) < 200
        assert seen[1:] == sorted(seen[1:])
        call.cancel()


def test_the_last_of_many_senders_messages_is_the_one_seen_last(start: Callable[..., GrpcioFront]) -> None:
    news = News(first=None)
    front = start({"/t/Watch": news.method})
    counter = 0
    lock = threading.Lock()

    def tell() -> None:
        nonlocal counter
        for _ in range(300):
            with lock:
                counter += 1
                news.sends[-1](b"%06d" % counter)

    with _channel(front) as channel:
        call = channel.unary_stream("/t/Watch")(b"", timeout=60)
        assert _eventually(lambda: bool(news.sends))
        with ThreadPoolExecutor(4) as pool:
            told = [pool.submit(tell) for _ in range(4)]
            seen = []
            for message in call:
                seen.append(message)
                if message == b"%06d" % 1200:
                    break
            for future in told:
                future.result()
        assert seen == sorted(seen)
        call.cancel()


def test_a_message_to_who_has_left_is_lost_without_harm(start: Callable[..., GrpcioFront]) -> None:
    news = News()
    front = start({"/t/Watch": news.method})
    with _channel(front) as channel:
        for _ in range(20):
            call = channel.unary_stream("/t/Watch")(b"", timeout=60)
            next(call)
            call.cancel()
            for send in news.sends:
                send(b"news")
        assert _eventually(lambda: news.left == 20)
        for send in news.sends:
            send(b"news")
    assert _eventually(lambda: front._open == _ALONE)


@pytest.mark.parametrize("fault", [False, True])
def test_an_error_in_subscribe_ends_the_call(start: Callable[..., GrpcioFront], fault: bool) -> None:
    def subscribe(_data: bytes, _call: Call, send: Callable[[bytes], None]) -> Callable[[], None]:
        send(b"first")
        raise RuntimeError("secret") if fault else StatusError(Code.NOT_FOUND, "no such news")

    front = start({"/t/Watch": Subscription(subscribe)})
    with _channel(front) as channel:
        error = _error(lambda: list(channel.unary_stream("/t/Watch")(b"", timeout=_LONG)))
        assert error.code() is (grpc.StatusCode.INTERNAL if fault else grpc.StatusCode.NOT_FOUND)
        assert "secret" not in error.details()


# The life of a front.


def test_a_used_port_is_an_os_error_that_names_it(start: Callable[..., GrpcioFront]) -> None:
    front = start({})
    with pytest.raises(OSError, match=f"localhost:{front.port}"):
        GrpcioFront("second", {}, f"localhost:{front.port}")


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_a_port_that_is_used_at_one_address_of_localhost_is_used(address: str) -> None:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        used = socket.create_server((address, 0), family=family)
    except OSError as error:
        pytest.skip(f"no {address} here: {error}")
    with used, pytest.raises(OSError, match="cannot listen on localhost"):
        GrpcioFront("second", {}, f"localhost:{used.getsockname()[1]}")


def test_stop_finishes_what_is_in_hand_refuses_what_is_new_and_frees_the_port(
    start: Callable[..., GrpcioFront],
) -> None:
    burst = _Burst()
    front = start({"/t/Hold": Unary(burst.hold)})
    with _channel(front, ("grpc.enable_retries", 0)) as channel:
        held = channel.unary_unary("/t/Hold").future(b"", timeout=60)
        assert burst.entered.wait(_LONG)
        stopping = threading.Thread(target=front.stop, args=(30,))
        stopping.start()
        time.sleep(0.3)
        with _channel(front, ("grpc.enable_retries", 0)) as late:
            refused = late.unary_unary("/t/Hold").future(b"", timeout=5)
            assert stopping.is_alive()
            burst.go.set()
            assert held.result() == b"held"
            assert refused.code() is grpc.StatusCode.UNAVAILABLE
        stopping.join(_LONG)
        assert not stopping.is_alive()
    again = GrpcioFront("again", {"/t/Echo": Unary(_echo)}, f"localhost:{front.port}")
    again.start()
    with _channel(again) as channel:
        assert channel.unary_unary("/t/Echo")(b"x", timeout=_LONG) == b"x"
    again.stop(5)


def test_stop_cancels_after_its_grace_what_does_not_end(start: Callable[..., GrpcioFront]) -> None:
    front = start({"/t/Exchange": Exchange(_echo)})
    with _channel(front) as channel:
        requests: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        call = channel.stream_stream("/t/Exchange")(iter(requests.get, None), timeout=60)
        requests.put(b"1")
        assert next(call) == b"1"
        front.stop(0.2)
        assert _error(lambda: next(call)).code() in (grpc.StatusCode.CANCELLED, grpc.StatusCode.UNAVAILABLE)
        requests.put(None)


@pytest.mark.parametrize("kind", [Unary, Exchange])
def test_stop_does_not_wait_for_a_thread_that_hangs_and_says_so(
    start: Callable[..., GrpcioFront],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    kind: type[Unary | Exchange],
) -> None:
    monkeypatch.setattr(grpcio_front, "_CANCELLING", 0.1)
    burst = _Burst()

    def long(_data: bytes, _call: Call) -> Work:
        yield
        return burst.hold(b"", _call)

    # By the front's own thread, and by that of its turns.
    front = start({"/t/Hang": kind(burst.hold if kind is Unary else long)})
    with _channel(front) as channel:
        call = channel.stream_stream("/t/Hang")(iter([b""]), timeout=60)
        assert burst.entered.wait(_LONG)
        assert front.stop(0.1) is False
        assert "hangs" in caplog.text
        burst.go.set()
        for thread in (front._thread, front._turns._thread):
            front._turns._queue.put(None)
            thread.join(_LONG)
        front._server.destroy()
        with pytest.raises(grpc.RpcError):
            next(call)


def test_stop_ends_subscriptions_at_once(start: Callable[..., GrpcioFront]) -> None:
    news = News()
    front = start({"/t/Watch": news.method})
    with _channel(front) as channel:
        calls = [channel.unary_stream("/t/Watch")(b"", timeout=60) for _ in range(5)]
        for call in calls:
            assert next(call) == b"first"
        front.stop(_LONG)
        for call in calls:
            error = _error(lambda call=call: next(call))
            assert (error.code(), error.details()) == (
                grpc.StatusCode.UNAVAILABLE,
                "the server stops: call another",
            )
        assert news.left == 5


def test_stop_under_load_ends_and_every_call_ends(start: Callable[..., GrpcioFront]) -> None:
    # A call may have arrived, but not have been accepted, in the instant of the stop.
    for _ in range(15):
        front = start({"/t/Echo": Unary(_echo), "/t/Watch": News().method})
        done = threading.Event()

        def load(front: GrpcioFront = front, done: threading.Event = done) -> set[grpc.StatusCode]:
            codes = set()
            with _channel(front, ("grpc.enable_retries", 0)) as channel:
                unary = channel.unary_unary("/t/Echo")
                while not done.is_set():
                    futures = [unary.future(b"x", timeout=_LONG) for _ in range(30)]
                    codes |= {future.code() for future in futures}
            return codes

        with ThreadPoolExecutor(2) as pool:
            loads = [pool.submit(load) for _ in range(2)]
            time.sleep(0.1)
            stopping = threading.Thread(target=front.stop, args=(5,), daemon=True)
            stopping.start()
            stopping.join(_LONG)
            done.set()
            codes = loads[0].result() | loads[1].result()
        assert not stopping.is_alive()
        assert codes <= {grpc.StatusCode.OK, grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED}


def test_a_call_that_arrives_in_the_instant_of_the_stop_is_answered_and_the_front_ends(
    start: Callable[..., GrpcioFront],
) -> None:
    burst = _Burst()
    front = start({"/t/Hold": Unary(burst.hold), "/t/Echo": Unary(_echo), "/t/Watch": News().method})
    with _channel(front) as channel:
        held = channel.unary_unary("/t/Hold").future(b"", timeout=60)
        assert burst.entered.wait(_LONG)
        # The front's thread is held: this call stands in its queue, not yet accepted, while it is stopped.
        arrived = channel.unary_unary("/t/Echo").future(b"x", timeout=60)
        time.sleep(0.2)
        stopping = threading.Thread(target=front.stop, args=(5,), daemon=True)
        stopping.start()
        time.sleep(0.2)
        burst.go.set()
        assert held.result() == b"held"
        assert arrived.result() == b"x"
        stopping.join(_LONG)
        assert not stopping.is_alive()


_DYING = """
import logging, time
from server.grpcio_front import GrpcioFront

logging.basicConfig()
front = GrpcioFront("api", {}, "localhost:0")

class Broken:
    def poll(self, *_arguments):
        raise MemoryError("no memory for an event")

front.start()
front._thread.join(0.1)
assert front._thread.is_alive()
broken = GrpcioFront("broken", {}, "localhost:0")
queue, broken._queue = broken._queue, Broken()
broken._request = lambda: broken._open.add(object())
broken.start()
time.sleep(30)
print("still here")
"""


def test_a_process_whose_front_has_died_ends_and_says_why() -> None:
    ran = subprocess.run(
        [sys.executable, "-c", _DYING], capture_output=True, text=True, timeout=60, check=False
    )
    assert (ran.returncode, ran.stdout) == (1, "")
    assert "the thread 'broken' has ended" in ran.stderr
    assert "no memory for an event" in ran.stderr


def test_ten_thousand_calls_leave_nothing_open(start: Callable[..., GrpcioFront]) -> None:
    front = start({"/t/Echo": Unary(_echo)})
    logging.getLogger("grpc").setLevel(logging.ERROR)
    with _channel(front) as channel:
        echo = channel.unary_unary("/t/Echo")
        for _ in range(100):
            for future in [echo.future(b"x", timeout=60) for _ in range(100)]:
                assert future.result() == b"x"
    assert _eventually(lambda: front._open == _ALONE)
