"""Limits of connections take effect: spoken to in raw HTTP/2, as no well-behaved client would."""

import socket
import struct
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

_SETTINGS, _PING, _GOAWAY = 4, 6, 7
_ACK = 1
_MAX_CONCURRENT_STREAMS = 3
_ENHANCE_YOUR_CALM = 11


class Connection:
    """A connection of HTTP/2 without a call."""

    def __init__(self, target: str):
        host, _, port = target.rpartition(":")
        self._socket = socket.create_connection((host, int(port)), timeout=20)
        self._socket.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
        self.send(_SETTINGS)

    def __enter__(self) -> "Connection":
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def send(self, kind: int, payload: bytes = b"", flags: int = 0) -> None:
        """Send a frame of the connection."""
        self._socket.sendall(struct.pack(">I", len(payload))[1:] + bytes([kind, flags, 0, 0, 0, 0]) + payload)

    def receive(self, kind: int) -> bytes | None:
        """Return the payload of the next frame of a kind that is no answer; None if the connection ends."""
        while header := self._read(9):
            payload = self._read(int.from_bytes(header[:3]))
            if header[3] == kind and not header[4] & _ACK:
                return payload
        return None

    def _read(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            try:
                more = self._socket.recv(size - len(data))
            except ConnectionError:
                return b""
            if not more:
                return b""
            data += more
        return data


@pytest.fixture
def start(start_server: Callable[..., Any], fraud_bundle: Path) -> Callable[..., Any]:
    """Return a function that starts a server whose connections do not age, with flags."""
    return lambda *flags: start_server(
        fraud_bundle.parents[1], "--max-connection-age", "600", "--drain-timeout", "660", *flags
    )


def test_calls_at_once_on_a_connection_are_bounded(start: Callable[..., Any]) -> None:
    for flags, expected in (((), 1000), (("--max-concurrent-streams", "7"), 7)):
        process = start(*flags)
        with Connection(process.target) as connection:
            settings = connection.receive(_SETTINGS)
            assert settings is not None
            found = dict(struct.iter_unpack(">HI", settings))
        assert found[_MAX_CONCURRENT_STREAMS] == expected
        assert process.stop() == 0


def test_a_connection_without_a_call_is_asked_to_end(start: Callable[..., Any]) -> None:
    process = start("--max-connection-idle", "0.5")
    with Connection(process.target) as connection:
        began = time.monotonic()
        assert connection.receive(_GOAWAY) is not None
        assert time.monotonic() - began > 0.4
    assert process.stop() == 0


def test_a_client_that_does_not_answer_is_given_up(start: Callable[..., Any]) -> None:
    process = start("--keepalive-time", "0.5", "--keepalive-timeout", "0.5")
    with Connection(process.target) as connection:
        asked = connection.receive(_PING)
        assert asked is not None
        # It answers three times, more often than is asked without a call by default; then no more.
        for _ in range(3):
            connection.send(_PING, asked, _ACK)
            asked = connection.receive(_PING)
            assert asked is not None
        assert connection.receive(_PING) is None
    assert process.stop() == 0


def test_a_client_that_asks_too_often_is_sent_away(start: Callable[..., Any]) -> None:
    def sent_away(target: str, pings: int) -> bool:
        with Connection(target) as connection:
            assert connection.receive(_SETTINGS) is not None
            connection.send(_SETTINGS, flags=_ACK)
            try:
                for _ in range(pings):
                    connection.send(_PING, bytes(8))
                    time.sleep(0.1)
            except ConnectionError:
                pass
            connection._socket.settimeout(1)
            try:
                goaway = connection.receive(_GOAWAY)
            except TimeoutError:
                return False
        assert goaway is not None
        return int.from_bytes(goaway[4:8]) == _ENHANCE_YOUR_CALM

    process = start()
    assert sent_away(process.target, 6)
    assert process.stop() == 0
    process = start("--min-ping-interval", "0.01")
    assert not sent_away(process.target, 6)
    assert process.stop() == 0
    process = start("--max-ping-strikes", "20")
    assert not sent_away(process.target, 6)
    assert sent_away(process.target, 30)
    assert process.stop() == 0
