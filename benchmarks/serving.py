"""A server's process, how to ask it once, and a subject: one kind of call that is measured round by round."""

import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import grpc

from benchmarks import cores, load

SECONDS = 1.5
_START = 60.0
_FIRST_CALLS = 64
_WARM_UP = 0.5
_UNLIMITED = [("grpc.max_receive_message_length", -1)]


class Process:
    """A server on its core, and a free port for it.

    Parameters
    ----------
    command
        How it is started; ``{port}`` stands for the port.
    folder
        Where it runs.
    prefix
        A command that runs it: by default, the one that pins it to the servers' core.
    """

    def __init__(
        self, command: Sequence[str], folder: Path | None = None, prefix: Sequence[str] | None = None
    ):
        self.port = free_port()
        self.target = f"localhost:{self.port}"
        words = [word.format(port=self.port) for word in command]
        if prefix is None:
            words = cores.pinned(cores.SERVER, words)
        # Never closed: the process's own, and gone with it.
        self._log = tempfile.TemporaryFile("w+")  # noqa: SIM115
        self._process = subprocess.Popen(
            [*(prefix or ()), *words],
            cwd=folder,
            stdout=self._log,
            stderr=self._log,
            stdin=subprocess.DEVNULL,
        )
        self.pid = self._process.pid

    def ready(self, ask: Callable[[], bytes]) -> bytes:
        """Return its first answer; raise `RuntimeError` with its last words if it never gives one."""
        deadline = time.monotonic() + _START
        while True:
            try:
                return ask()
            except (OSError, grpc.RpcError) as error:
                if self._process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError(f"{self._process.args!r} does not serve: {self.said()}") from error
                time.sleep(0.1)

    def said(self) -> str:
        """Return what it has written last."""
        self._log.seek(0)
        return self._log.read()[-2000:]

    def stop(self) -> None:
        """End it at once, and wait until it has."""
        self._process.kill()
        self._process.wait()
        self._log.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port: int = free.getsockname()[1]
    return port


def python(*arguments: str) -> list[str]:
    """Return a command of this Python."""
    return [sys.executable, *arguments]


def ask_grpc(target: str, path: str, request: bytes) -> bytes:
    """Return the message that a call is answered with."""
    with grpc.insecure_channel(target, _UNLIMITED) as channel:
        call: Any = channel.unary_unary(path)
        answer: bytes = call(request, timeout=30)
    return answer


def ask_grpc_stream(target: str, path: str, requests: Sequence[bytes]) -> list[bytes]:
    """Return the messages that a stream is answered with."""
    with grpc.insecure_channel(target, _UNLIMITED) as channel:
        call: Any = channel.stream_stream(path)
        return list(call(iter(requests), timeout=30))


def ask_http(url: str, body: bytes) -> bytes:
    """Return the body that a POST of JSON is answered with."""
    request = urllib.request.Request(url, body, {"content-type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=30) as response:
            answer: bytes = response.read()
    except urllib.error.HTTPError as error:
        raise load.WrongAnswerError(f"{url}: {error.code} {error.read().decode(errors='replace')}") from error
    return answer


class Subject:
    """A call that is measured round by round, and must be answered alike each time.

    Parameters
    ----------
    name
        In tables.
    call
        What is sent.
    ask
        Sends it once, and returns the answer.
    rows
        How many rows a call scores.
    connections, streams
        How many calls are under way at once.
    """

    def __init__(
        self,
        name: str,
        call: load.Call,
        ask: Callable[[], object],
        *,
        rows: int = 1,
        connections: int = load.CONNECTIONS,
        streams: int = load.STREAMS,
    ):
        self.name = name
        self.rows = rows
        self.call = call
        self._ask = ask
        self._at_once = (connections, streams)
        self._answer = ask()
        # A first second of calls warms it up, and tells how many of them a round has.
        first = load.run(call, _FIRST_CALLS, *self._at_once)
        second = load.run(call, int(first.rate * _WARM_UP), *self._at_once)
        self._calls = int(second.rate * SECONDS)

    def measure(self) -> load.Run:
        """Run the load for about `SECONDS`."""
        run = load.run(self.call, self._calls, *self._at_once)
        self.check()
        return run

    def check(self) -> None:
        """Raise `WrongAnswerError` unless the answer is still that of the beginning."""
        if self._ask() != self._answer:
            raise load.WrongAnswerError(f"{self.name}: the answer has changed")


def grpc_subject(
    name: str,
    target: str,
    path: str,
    requests: Sequence[bytes],
    *,
    streamed: bool = False,
    rows: int = 1,
    connections: int = load.CONNECTIONS,
    streams: int = load.STREAMS,
) -> Subject:
    """Return the subject of a gRPC call, of one message or a stream of them."""

    def ask() -> list[bytes]:
        if streamed:
            return ask_grpc_stream(target, path, requests)
        return [ask_grpc(target, path, requests[0])]

    received = len(load.framed(ask()))
    call = load.Call(f"http://{target}{path}", load.framed(requests), received)
    return Subject(name, call, ask, rows=rows, connections=connections, streams=streams)


def http_subject(name: str, url: str, body: bytes) -> Subject:
    """Return the subject of a POST of JSON over HTTP/1.1."""

    def ask() -> bytes:
        return ask_http(url, body)

    call = load.Call(url, body, len(ask()), ("content-type: application/json",), http1=True)
    return Subject(name, call, ask)
