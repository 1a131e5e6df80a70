"""The port of metrics, and those who mean no good to it."""

import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from urllib.error import HTTPError

import pytest

from server import exporter, port
from server.exporter import Exporter
from server.store import Store


@pytest.fixture
def target(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """Return the port of an exporter that has little patience."""
    for name in ("_ASKING", "_TIMEOUT"):
        monkeypatch.setattr(exporter, name, 1.0)
    listeners = port.listen("127.0.0.1", 0)
    for each in listeners:
        # Connections have it from there: who does not read holds up who answers.
        each.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    store = Store()
    store.cells("forest_workers", {})[0] = 1
    for version in range(1_000):
        store.cells("forest_rows_total", {"model": "fraud", "version": str(version)})
    ours, theirs = socket.socketpair()
    served = Exporter(listeners, [store], 3600, os.getpid())
    thread = exporter.threading.Thread(target=served.serve, args=(theirs,))
    thread.start()
    yield listeners[0].getsockname()[1]
    # It ends when nobody is at the other end any more.
    ours.close()
    thread.join(10)
    assert not thread.is_alive()
    for each in (*listeners, theirs):
        each.close()


def scrape(number: int, accept: str = "*/*") -> str:
    request = urllib.request.Request(f"http://127.0.0.1:{number}/metrics", headers={"Accept": accept})
    with urllib.request.urlopen(request, timeout=20) as response:
        return response.read().decode()


def until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def scrapers() -> list[exporter.threading.Thread]:
    return [each for each in exporter.threading.enumerate() if each.name == "scrape"]


def gone(connection: socket.socket) -> bool:
    """Return whether the other side has ended a connection."""
    connection.settimeout(20)
    try:
        while connection.recv(65536):
            pass
    except ConnectionError:
        pass
    return True


def test_it_answers_in_the_form_that_is_asked_for(target: int) -> None:
    assert "\nforest_workers 1.0\n" in scrape(target)
    assert scrape(target, "application/openmetrics-text; version=1.0.0").endswith("# EOF\n")
    for path in ("/", "/metricsx", "/debug"):
        with pytest.raises(HTTPError, match="404"):
            urllib.request.urlopen(f"http://127.0.0.1:{target}{path}", timeout=20)


@pytest.mark.parametrize(
    "sent",
    [b"", b"GET /metrics HTTP/1.1\r\n", b"\x16\x03\x01\x00\xff\r\n\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"],
)
def test_who_does_not_ask_in_time_is_sent_away(target: int, sent: bytes) -> None:
    with socket.create_connection(("127.0.0.1", target)) as connection:
        connection.sendall(sent)
        assert gone(connection)
    assert "forest_workers" in scrape(target)


def test_who_asks_a_byte_at_a_time_is_sent_away_all_the_same(target: int) -> None:
    with socket.create_connection(("127.0.0.1", target)) as connection:

        def sent_away() -> bool:
            try:
                connection.sendall(b"x")
            except ConnectionError:
                return True
            return False

        until(sent_away)
    assert "forest_workers" in scrape(target)


def test_many_at_once_are_bounded_and_those_who_come_later_are_served(target: int) -> None:
    connections = [socket.create_connection(("127.0.0.1", target)) for _ in range(100)]
    # Some are just ending.
    assert len(scrapers()) <= 2 * exporter._CONNECTIONS
    for each in connections:
        assert gone(each)
        each.close()
    until(lambda: not scrapers())
    assert "forest_workers" in scrape(target)


@pytest.mark.parametrize("sent", [b"", b"GET /metrics HTTP/1.1\r\n", b"GET /metrics HTTP/1.1\r\n\r\n"])
def test_who_is_slow_to_ask_or_to_read_loses_and_not_who_asks(
    target: int, monkeypatch: pytest.MonkeyPatch, sent: bytes
) -> None:
    for name in ("_ASKING", "_TIMEOUT"):
        monkeypatch.setattr(exporter, name, 1000.0)
    monkeypatch.setattr(exporter, "_SLOW", 0.0)
    slow = []
    for _ in range(exporter._CONNECTIONS):
        connection = socket.socket()
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
        connection.connect(("127.0.0.1", target))
        connection.sendall(sent)
        slow.append(connection)
    until(lambda: len(scrapers()) == exporter._CONNECTIONS)
    assert "forest_workers" in scrape(target)
    # One has lost, and no other one.
    until(lambda: len(scrapers()) == exporter._CONNECTIONS - 1)
    if not sent.endswith(b"\r\n\r\n"):
        assert gone(slow[0])
    for connection in slow:
        connection.close()


def test_who_finds_no_thread_is_sent_away_and_the_next_one_is_served(
    target: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_thread: object) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patched:
        patched.setattr(exporter.threading.Thread, "start", fail)
        with socket.create_connection(("127.0.0.1", target)) as connection:
            assert gone(connection)
    assert "forest_workers" in scrape(target)


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "0.0.0.0", "[::]"])
def test_its_port_is_nobody_elses(host: str) -> None:
    listeners = port.listen(host, 0) if host != "localhost" else port.listen("127.0.0.1", 0)
    number = listeners[0].getsockname()[1]
    try:
        with pytest.raises(
            OSError, match=f"cannot listen on {host.replace('[', '.').replace(']', '.')}:{number}"
        ):
            port.listen(host, number)
    finally:
        for each in listeners:
            each.close()
    again = port.listen(host, number)
    for each in again:
        each.close()


def test_who_answers_calls_brings_in_nothing_that_answers_scrapes() -> None:
    script = "import sys, server.server; print({'prometheus_client', 'http.server'} & sys.modules.keys())"
    command = [sys.executable, "-c", script]
    result = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, timeout=60)
    assert result.stdout == "set()\n"
