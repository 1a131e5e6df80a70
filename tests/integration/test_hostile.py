"""Clients that mean harm, or are broken: others get the same bits meanwhile, and nothing is left over."""

import gzip
import itertools
import os
import random
import re
import resource
import socket
import struct
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from forest.v1.prediction_service_pb2 import Matrix, PredictBatchRequest, PredictRequest, Vector

pytestmark = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="this system has no /proc")

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DATA, _HEADERS, _PRIORITY, _RESET, _SETTINGS, _PING, _GOAWAY, _WINDOW, _CONTINUATION = (
    0,
    1,
    2,
    3,
    4,
    6,
    7,
    8,
    9,
)
_END_STREAM = _ACK = 1
_END_HEADERS = 4
_HEADER_TABLE_SIZE, _INITIAL_WINDOW = 1, 4
_PREDICT = "/forest.v1.PredictionService/Predict"
_BATCH = "/forest.v1.PredictionService/PredictBatch"
_STREAM = "/forest.v1.PredictionService/PredictStream"
_MOST_BYTES = 4 * 1024 * 1024
_MIB = 1024
# Calls that wait to be taken cost 9 kB each, and up to 10,000 of them may.
_MOST_GROWN = 96 * _MIB
_IDLE = 1000
_LONG = 30


def _frame(kind: int, flags: int = 0, stream: int = 0, payload: bytes = b"") -> bytes:
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


def _text(text: str | bytes) -> bytes:
    """Return a text as HPACK has it, without Huffman's code."""
    data = text.encode() if isinstance(text, str) else text
    if len(data) < 127:
        return bytes([len(data)]) + data
    rest = len(data) - 127
    size = bytearray([127])
    while rest > 127:
        size.append(rest & 127 | 128)
        rest >>= 7
    return bytes([*size, rest]) + data


def _header(name: str, value: str | bytes) -> bytes:
    return b"\0" + _text(name) + _text(value)


def _headers(path: str | bytes = _PREDICT, *more: tuple[str, str | bytes]) -> bytes:
    own = {
        ":method": "POST",
        ":scheme": "http",
        ":path": path,
        ":authority": "localhost",
        "te": "trailers",
        "content-type": "application/grpc",
    }
    own |= dict(more)
    return b"".join(itertools.starmap(_header, own.items()))


def _message(data: bytes, flag: int = 0, length: int | None = None) -> bytes:
    return bytes([flag]) + struct.pack(">I", len(data) if length is None else length) + data


class Wire:
    """A connection of HTTP/2 whose every byte is ours."""

    def __init__(self, target: str, window: int = 2**31 - 1):
        host, _, port = target.rpartition(":")
        self.socket = socket.create_connection((host, int(port)), timeout=_LONG)
        # Without a table the server writes each header out, and so it is read with ease.
        self.send(
            _PREFACE,
            _frame(_SETTINGS, payload=struct.pack(">HIHI", _HEADER_TABLE_SIZE, 0, _INITIAL_WINDOW, window)),
        )
        self._received = b""
        self.ended = False

    def __enter__(self) -> "Wire":
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def send(self, *data: bytes) -> None:
        self.socket.sendall(b"".join(data))

    def flood(self, *data: bytes) -> None:
        """Send as far as the server lets us, and read nothing."""
        self.socket.settimeout(1)
        try:
            for part in data:
                self.socket.sendall(part)
        except OSError:
            pass

    def call(
        self, stream: int, body: bytes, path: str | bytes = _PREDICT, *more: tuple[str, str | bytes]
    ) -> None:
        """Make a call. The body is small, or the server ends the call before more is sent than it lets us."""
        self.send(_frame(_HEADERS, _END_HEADERS, stream, _headers(path, *more)))
        parts = [body[place : place + 16384] for place in range(0, len(body), 16384)] or [b""]
        for part in parts[:-1]:
            self.send(_frame(_DATA, 0, stream, part))
        self.send(_frame(_DATA, _END_STREAM, stream, parts[-1]))

    def frame(self) -> tuple[int, int, int, bytes] | None:
        """Return the next frame: kind, flags, stream and payload; None if the connection has ended."""
        header = self._read(9)
        if not header:
            return None
        payload = self._read(int.from_bytes(header[:3]))
        return header[3], header[4], int.from_bytes(header[5:]), payload

    def answer(self, stream: int) -> tuple[int, bytes]:
        """Return a call's status, and its message's bytes; -1 if there is none, but an end."""
        body = b""
        while found := self.frame():
            kind, _flags, of, payload = found
            if of != stream:
                continue
            if kind == _DATA:
                body += payload
            elif kind == _HEADERS and (status := re.search(rb"grpc-status(.)", payload, re.DOTALL)):
                return int(payload[status.end() : status.end() + status[1][0]]), body[5:]
            elif kind == _RESET:
                break
        return -1, body

    def vanish(self) -> None:
        """Go without a word, as a machine does that loses its power: the kernel resets the connection."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()

    def _read(self, size: int) -> bytes:
        try:
            while len(self._received) < size and (more := self.socket.recv(65536)):
                self._received += more
        except ConnectionError:
            pass
        if len(self._received) < size:
            self.ended = True
            return b""
        data, self._received = self._received[:size], self._received[size:]
        return data


class Watched:
    """The server, and what of it must not change."""

    def __init__(self, process: Any, requests: list[bytes], answers: list[bytes]):
        self.process = process
        self.target: str = process.target
        self.pid: int = process.process.pid
        self.requests = requests
        self.answers = answers

    def resident(self) -> int:
        """Return how much memory the process takes, in KiB."""
        found = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{self.pid}/status").read_text())
        assert found
        return int(found[1])

    def peak(self) -> int:
        """Return how much memory it took at most since `forget_peak`, in KiB."""
        found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{self.pid}/status").read_text())
        assert found
        return int(found[1])

    def forget_peak(self) -> None:
        Path(f"/proc/{self.pid}/clear_refs").write_text("5")

    def threads(self) -> int:
        return len(os.listdir(f"/proc/{self.pid}/task"))

    def descriptors(self) -> int:
        return len(os.listdir(f"/proc/{self.pid}/fd"))


def _ask(channel: grpc.Channel, request: bytes) -> bytes:
    answer: bytes = channel.unary_unary(_PREDICT)(request, timeout=_LONG)
    return answer


@pytest.fixture(scope="module")
def watched(
    start_server: Callable[..., Any],
    fraud_bundle: Path,
    golden: list[Any],
    connect: Callable[..., AbstractContextManager[grpc.Channel]],
) -> Watched:
    process = start_server(fraud_bundle.parents[1])
    requests = [
        PredictRequest(model="fraud", vector=Vector(values=row.values)).SerializeToString()
        for row in golden[:20]
    ]
    with connect(process.target) as channel:
        answers = [_ask(channel, request) for request in requests]
    return Watched(process, requests, answers)


@pytest.fixture
def unharmed(
    watched: Watched,
    connect: Callable[..., AbstractContextManager[grpc.Channel]],
    health_of: Callable[[str], dict[str, str]],
) -> Iterator[Watched]:
    """Serve others while a test goes on, and see that each gets the right bits and nothing is left."""
    done = threading.Event()
    count = 0
    wrong: list[Any] = []

    def others() -> None:
        nonlocal count
        with connect(watched.target) as channel:
            while not done.is_set():
                place = count % len(watched.requests)
                try:
                    answer: Any = _ask(channel, watched.requests[place])
                except grpc.RpcError as error:
                    # As any client's of its own: the connection may have come of age.
                    answer = error
                if answer != watched.answers[place]:
                    wrong.append(answer)
                count += 1
                time.sleep(0.005)

    descriptors, lines = watched.descriptors(), len(watched.process.log)
    thread = threading.Thread(target=others)
    thread.start()
    try:
        yield watched
        seen = count
        _eventually(lambda: count > seen + 1 or not thread.is_alive())
    finally:
        done.set()
        thread.join()
    assert not wrong, wrong[:3]
    assert count > 1
    assert watched.process.process.poll() is None
    for target in (watched.target, watched.process.health_target):
        assert set(health_of(target).values()) == {"SERVING"}
    _eventually(lambda: watched.descriptors() <= descriptors + 1)
    _eventually(lambda: watched.threads() <= 24)
    assert "Traceback" not in "".join(watched.process.log[lines:])


def _eventually(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + _LONG
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)


# Every call that is a call gets a status.

_OK, _INVALID, _DEADLINE, _NOT_FOUND, _EXHAUSTED, _UNIMPLEMENTED, _INTERNAL = 0, 3, 4, 5, 8, 12, 13
_EMPTY = _message(b"")


def _packed(compress: Callable[[bytes], bytes], data: bytes) -> bytes:
    return _message(compress(data), flag=1)


@pytest.mark.parametrize(
    ("status", "body", "more"),
    [
        pytest.param(_NOT_FOUND, _EMPTY, (), id="nothing"),
        pytest.param(_INVALID, b"", (), id="no message"),
        pytest.param(_INVALID, b"\0\0", (), id="half a prefix"),
        pytest.param(_INVALID, _message(b"x" * 9, length=90), (), id="a length that lies: less comes"),
        pytest.param(_EXHAUSTED, _message(b"x", length=2**32 - 1), (), id="a length that lies: 4 GiB"),
        pytest.param(_EXHAUSTED, _message(b"x", length=_MOST_BYTES + 1), (), id="a byte above the limit"),
        pytest.param(_INVALID, _message(b"\xff" * 20), (), id="no message of ours"),
        pytest.param(_UNIMPLEMENTED, _EMPTY, ((":path", "/forest.v1.PredictionService/Steal"),), id="method"),
        pytest.param(_UNIMPLEMENTED, _EMPTY, ((":path", b"/\xff\xfe/\xff"),), id="a path that is no text"),
        pytest.param(_UNIMPLEMENTED, _EMPTY, ((":path", ""),), id="no path"),
        pytest.param(_UNIMPLEMENTED, _EMPTY, ((":path", "/" * 8000),), id="a path without end"),
        pytest.param(_NOT_FOUND, _EMPTY, (("content-type", "text/html"),), id="another content type"),
        pytest.param(_NOT_FOUND, _EMPTY, (("x", b"\xff\x80"),), id="metadata that is no UTF-8"),
        pytest.param(_INTERNAL, _EMPTY, (("x-bin", "!!!"),), id="metadata that is no base64"),
        pytest.param(_INTERNAL, _EMPTY, (("Upper", "x"),), id="a header's name that is none"),
        pytest.param(_INTERNAL, _EMPTY, (("grpc-timeout", "soon"),), id="a deadline that is none"),
        pytest.param(
            _NOT_FOUND, _EMPTY, (("grpc-timeout", "99999999H"),), id="a deadline in ten thousand years"
        ),
        pytest.param(_DEADLINE, _EMPTY, (("grpc-timeout", "0n"),), id="a deadline that has passed"),
        pytest.param(_INTERNAL, _message(b"x" * 9, flag=1), (), id="compressed as nobody knows"),
        pytest.param(_INTERNAL, _message(b"x" * 9, flag=1), (("grpc-encoding", "gzip"),), id="no gzip"),
        pytest.param(
            _INTERNAL, _message(b"x" * 9, flag=1), (("grpc-encoding", "br"),), id="an unknown encoding"
        ),
        pytest.param(_NOT_FOUND, _packed(gzip.compress, b""), (("grpc-encoding", "gzip"),), id="gzip"),
    ],
)
def test_every_call_gets_a_status(
    unharmed: Watched, status: int, body: bytes, more: tuple[tuple[str, str | bytes], ...]
) -> None:
    with Wire(unharmed.target) as wire:
        wire.call(1, body, _PREDICT, *more)
        assert wire.answer(1)[0] == status
        # The connection goes on.
        wire.call(3, _message(unharmed.requests[0]))
        assert wire.answer(3) == (_OK, unharmed.answers[0])


def test_a_token_that_is_no_utf8_is_not_in_the_log(unharmed: Watched) -> None:
    lines = len(unharmed.process.log)
    with Wire(unharmed.target) as wire:
        wire.call(1, _EMPTY, _PREDICT, ("authorization", b"Bearer s3cret\xff"))
        assert wire.answer(1)[0] == _NOT_FOUND
        wire.call(3, _EMPTY, b"/s3cret\xff")
        assert wire.answer(3)[0] == _UNIMPLEMENTED
    assert "s3cret" not in "".join(unharmed.process.log[lines:])


# What slow clients get.


def test_who_writes_byte_by_byte_is_answered(unharmed: Watched) -> None:
    with Wire(unharmed.target) as wire:
        wire.send(_frame(_HEADERS, _END_HEADERS, 1, _headers()))
        body = _message(unharmed.requests[3])
        frames = b"".join(_frame(_DATA, 0, 1, body[place : place + 1]) for place in range(len(body)))
        for place in range(len(frames)):
            wire.send(frames[place : place + 1])
        wire.send(_frame(_DATA, _END_STREAM, 1))
        assert wire.answer(1) == (_OK, unharmed.answers[3])


def test_who_reads_byte_by_byte_gets_every_byte(unharmed: Watched) -> None:
    expected = unharmed.answers[5]
    with Wire(unharmed.target, window=0) as wire:
        wire.call(1, _message(unharmed.requests[5]))
        for _ in range(len(_message(expected))):
            wire.send(_frame(_WINDOW, 0, 1, struct.pack(">I", 1)))
            time.sleep(0.001)
        assert wire.answer(1) == (_OK, expected)


# What harms nobody and leaves nothing. Each is done again and again: what grew would show.


def _junk(target: str) -> None:
    host, _, port = target.rpartition(":")
    chance = random.Random(7)
    hello = b"\x16\x03\x01\x00\xf8\x01\x00\x00\xf4\x03\x03" + bytes(242)
    endless = _PREFACE + _frame(_SETTINGS)
    for data in (
        b"",
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"POST /forest.v1.PredictionService/Predict HTTP/1.1\r\nContent-Length: 999999999\r\n\r\nx",
        hello,
        bytes(10_000),
        chance.randbytes(10_000),
        _PREFACE[:9],
        _PREFACE,
        _PREFACE[:-1] + b"!",
        _PREFACE + chance.randbytes(10_000),
        endless + b"\xff\xff\xff\x00\x00\x00\x00\x00\x01" + bytes(50_000),
        endless + b"\x00\x40\x00" + _frame(_HEADERS, 0, 1)[3:],
        endless + _frame(_HEADERS, _END_HEADERS, 1, b"\xff" * 100),
        endless + _frame(_HEADERS, _END_HEADERS, 2, _headers()),
        endless + _frame(_HEADERS, _END_HEADERS, 0, _headers()),
        endless + _frame(_HEADERS, _END_HEADERS | 0x28, 1, b"\xff\0\0\0\0\0"),
        endless + _frame(_SETTINGS, payload=b"x"),
        endless + _frame(_SETTINGS, payload=struct.pack(">HI", _INITIAL_WINDOW, 2**32 - 1)),
        endless + _frame(_PING, payload=b"x"),
        endless + _frame(_WINDOW, payload=struct.pack(">I", 0)),
        endless + 3 * _frame(_WINDOW, payload=struct.pack(">I", 2**31 - 1)),
        endless + _frame(_CONTINUATION, _END_HEADERS, 1, _headers()),
        endless + _frame(_GOAWAY, payload=bytes(8)),
        endless + _frame(5, _END_HEADERS, 1, struct.pack(">I", 2) + _headers()),
    ):
        with socket.create_connection((host, int(port)), timeout=_LONG) as connection:
            try:
                connection.sendall(data)
                connection.settimeout(0.05)
                connection.recv(1000)
            except (TimeoutError, ConnectionError):
                pass


def _floods(target: str) -> None:
    for frame in (
        _frame(_PING, payload=bytes(8)),
        _frame(_PING, _ACK, payload=bytes(8)),
        _frame(_SETTINGS, payload=struct.pack(">HI", _INITIAL_WINDOW, 65_535)),
        _frame(_SETTINGS, _ACK),
        _frame(_PRIORITY, 0, 1, bytes(5)),
        _frame(_WINDOW, 0, 0, struct.pack(">I", 1)),
        _frame(_RESET, 0, 1, struct.pack(">I", 8)),
        _frame(99, 0, 0, b"x" * 100),
    ):
        with Wire(target) as wire:
            wire.flood(*[frame * 500] * 20)
    # Of a call: its message never comes.
    for frame in (
        _frame(_DATA, 0, 1),
        _frame(_DATA, 8, 1, b"\0"),
        _frame(_WINDOW, 0, 1, struct.pack(">I", 1)),
    ):
        with Wire(target) as wire:
            wire.flood(_frame(_HEADERS, _END_HEADERS, 1, _headers()), *[frame * 500] * 20)


def _rapid_resets(target: str) -> None:
    for path in (_PREDICT, _STREAM, "/grpc.health.v1.Health/Watch"):
        with Wire(target) as wire:
            calls = (
                _frame(_HEADERS, _END_HEADERS, stream, _headers(path))
                + _frame(_DATA, 0, stream, _EMPTY)
                + _frame(_RESET, 0, stream, struct.pack(">I", 8))
                for stream in range(1, 2000, 2)
            )
            wire.flood(*calls)


def _endless_headers(target: str) -> None:
    with Wire(target) as wire:
        wire.flood(
            _frame(_HEADERS, 0, 1, _headers()),
            *(_frame(_CONTINUATION, 0, 1, _header(f"x{number}", "y" * 1000)) for number in range(2000)),
        )
    with Wire(target) as wire:
        # One entry of 4 KB, and then a byte for each time that it is meant: 64 MB of metadata.
        bomb = _headers() + b"\x40" + _text("x") + _text("y" * 3900) + b"\xbe" * 16_000
        wire.send(
            _frame(_HEADERS, 0, 1, bomb[:16_384]), _frame(_CONTINUATION, _END_HEADERS, 1, bomb[16_384:])
        )
        assert wire.answer(1)[0] == _EXHAUSTED


def _inflating(target: str) -> None:
    for encoding, bomb in _BOMBS.items():
        with Wire(target) as wire:
            wire.call(1, bomb, _PREDICT, ("grpc-encoding", encoding))
            # Nearly always the C core's own; by chance it tells us first that there is no message.
            assert wire.answer(1)[0] in (_EXHAUSTED, _INVALID)


_BOMBS = {
    "gzip": _message(gzip.compress(bytes(48 * 1024 * 1024)), flag=1),
    "deflate": _message(zlib.compress(bytes(48 * 1024 * 1024)), flag=1),
}


def _vanishing(target: str) -> None:
    for path, body in (
        (_PREDICT, _EMPTY),
        (_PREDICT, _message(b"x" * 10_000, length=_MOST_BYTES)[:10_000]),
        (_BATCH, _message(b"x" * 10_000, length=_MOST_BYTES)[:10_000]),
        (_STREAM, _EMPTY),
        ("/grpc.health.v1.Health/Watch", _EMPTY),
        ("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", _EMPTY),
    ):
        wire = Wire(target, window=0)
        for stream in range(1, 100, 2):
            wire.flood(
                _frame(_HEADERS, _END_HEADERS, stream, _headers(path)), _frame(_DATA, 0, stream, body[:1000])
            )
        wire.vanish()


def _reading_nothing(target: str) -> None:
    # 50 answers of 30 kB that nobody reads, and rows without end on a stream.
    request = PredictBatchRequest(model="fraud", matrix=Matrix(rows=1, columns=30, data=bytes(120)))
    request.request_id = "x" * 1000
    body = _message(request.SerializeToString())
    with Wire(target, window=0) as wire:
        for stream in range(1, 100, 2):
            wire.send(_frame(_HEADERS, _END_HEADERS, stream, _headers(_BATCH)))
            wire.send(_frame(_DATA, _END_STREAM, stream, body))
        wire.send(_frame(_HEADERS, _END_HEADERS, 101, _headers(_STREAM)))
        # No more than the window of a stream, which we are not told to be wider.
        wire.flood(*[_frame(_DATA, 0, 101, body)] * 40)
        time.sleep(0.2)


def _names_without_end(target: str) -> None:
    with Wire(target) as wire:
        wire.call(1, _NAMES, _PREDICT)
        status = wire.answer(1)[0]
    assert status == _INVALID


def _field(number: int, data: bytes) -> bytes:
    size = len(data)
    length = bytearray()
    while size > 127:
        length.append(size & 127 | 128)
        size >>= 7
    return bytes([number << 3 | 2, *length, size]) + data


# As much as a stream takes before it is told that there is room for more.
_NAMES = _message(
    _field(1, b"fraud") + _field(3, b"".join(_field(1, _field(1, b"%x" % number)) for number in range(6_000)))
)


@pytest.mark.parametrize(
    "attack",
    [
        _junk,
        _floods,
        _rapid_resets,
        _endless_headers,
        _inflating,
        _vanishing,
        _reading_nothing,
        _names_without_end,
    ],
    ids=lambda attack: attack.__name__.strip("_"),
)
def test_what_means_harm_harms_nobody_and_leaves_nothing(
    unharmed: Watched, attack: Callable[[str], None]
) -> None:
    unharmed.forget_peak()
    sizes = [unharmed.resident()]
    # A backlog of calls takes room, which the allocator keeps for the next: it must settle.
    while len(sizes) < 3 or sizes[-1] - sizes[-2] > 2 * _MIB:
        assert len(sizes) < 12, f"it grows on and on: {sizes} KiB"
        for _ in range(3):
            attack(unharmed.target)
            # Whoever comes after it is answered after it: what had come is done with.
            with Wire(unharmed.target) as wire:
                wire.call(1, _message(unharmed.requests[1]))
                assert wire.answer(1) == (_OK, unharmed.answers[1])
        sizes.append(unharmed.resident())
    assert unharmed.peak() - sizes[0] < _MOST_GROWN, f"{unharmed.peak()} KiB: {sizes}"


@contextmanager
def _many_descriptors(count: int) -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    need = count + 200
    if hard != resource.RLIM_INFINITY and hard < need:
        pytest.skip(f"this system allows {hard} open files, and {need} are needed")
    if soft != resource.RLIM_INFINITY and soft < need:
        resource.setrlimit(resource.RLIMIT_NOFILE, (need, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_thousand_idle_connections_cost_little_and_others_are_served(
    start_server: Callable[..., Any], fraud_bundle: Path, watched: Watched
) -> None:
    with _many_descriptors(_IDLE), ExitStack() as stack:
        # Started now, so that it has the limit as well.
        process = start_server(
            fraud_bundle.parents[1], "--max-connection-age", "600", "--drain-timeout", "660"
        )
        other = Watched(process, watched.requests, watched.answers)
        sizes = [other.resident()]
        while len(sizes) < 4 or sizes[-1] - sizes[-2] > 2 * _MIB:
            assert len(sizes) < 12, f"it grows on and on: {sizes} KiB"
            with ExitStack() as idle:
                wires = [idle.enter_context(Wire(other.target)) for _ in range(_IDLE)]
                _eventually(lambda: other.descriptors() >= _IDLE)
                for number in (0, 1, _IDLE // 2, _IDLE - 1):
                    place = number % len(other.requests)
                    wires[number].call(1, _message(other.requests[place]))
                    assert wires[number].answer(1) == (_OK, other.answers[place])
                sizes.append(other.resident())
            _eventually(lambda: other.descriptors() < 50)
        assert sizes[-1] - sizes[0] < 64 * _MIB, sizes
        stack.callback(process.process.kill)
        assert process.stop() == 0
