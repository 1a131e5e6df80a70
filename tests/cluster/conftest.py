"""Callers without a cluster, and what they call: servers by a name, as that of a headless Service."""

import json
import shutil
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.accounting import Log, Release, read_log

NAME = "fraud-forest-headless.forest-staging"
_A, _INTERNET, _NO_SUCH_NAME = 1, 1, 3
# Connections age in a second where pods take half a minute.
_LIFE = ("--max-connection-age", "1", "--max-connection-age-grace", "2", "--drain-timeout", "2.5")


class Resolver:
    """A DNS server on loopback that knows one name, and as its addresses whatever it is told.

    Attributes
    ----------
    addresses : list of str
        What the name stands for.
    """

    def __init__(self) -> None:
        self.addresses: list[str] = []
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self._thread = threading.Thread(target=self._answer, daemon=True)
        self._thread.start()

    def target(self, port: int) -> str:
        """Return what a client calls: it asks this server and no other."""
        return f"dns://127.0.0.1:{self._socket.getsockname()[1]}/{NAME}:{port}"

    def close(self) -> None:
        """Answer no more."""
        self._socket.close()

    def _answer(self) -> None:
        while True:
            try:
                query, peer = self._socket.recvfrom(512)
                self._socket.sendto(self._response(query), peer)
            except OSError:
                return

    def _response(self, query: bytes) -> bytes:
        """Return the answer to a query of one question (RFC 1035, section 4)."""
        labels, place = [], 12
        while query[place]:
            labels.append(query[place + 1 : place + 1 + query[place]].decode())
            place += 1 + query[place]
        question = query[12 : place + 5]
        kind, _ = struct.unpack("!HH", question[-4:])
        known = ".".join(labels).lower() == NAME
        addresses = self.addresses if known and kind == _A else []
        flags = 0x8580 | (0 if known else _NO_SUCH_NAME)
        header = query[:2] + struct.pack("!HHHHH", flags, 1, len(addresses), 0, 0)
        # Each record's name is the question's, which begins at byte 12. No one is to remember it: TTL 0.
        records = (
            b"\xc0\x0c" + struct.pack("!HHIH", _A, _INTERNET, 0, 4) + socket.inet_aton(address)
            for address in tuple(addresses)
        )
        return header + question + b"".join(records)


@pytest.fixture
def resolver() -> Iterator[Resolver]:
    """Return a DNS server."""
    server = Resolver()
    yield server
    server.close()


class CallerProcess:
    """The caller in a process of its own, here or in a container.

    Attributes
    ----------
    lines : list of str
        What it has written so far.
    """

    def __init__(self, *command: str):
        self.lines: list[str] = []
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def wait_for(self, text: str, lines: int = 1) -> None:
        """Wait until so many more lines have a text in them."""
        seen = len(self.lines)
        deadline = time.monotonic() + 30
        while sum(text in line for line in self.lines[seen:]) < lines:
            assert time.monotonic() < deadline, f"no {text!r} after line {seen}:\n{''.join(self.lines[-5:])}"
            time.sleep(0.02)

    def end(self, *command: str) -> Log:
        """Tell it to end, by a command if one is given; return its log."""
        if command:
            subprocess.run(command, check=True)
        else:
            self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(30) == 0
        self._reader.join()
        return read_log(self.lines)

    def kill(self) -> None:
        """End it at once, if it has not ended."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self._reader.join()

    def _read(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as lines:
            for line in lines:
                self.lines.append(line)


@pytest.fixture
def start_caller() -> Iterator[Callable[..., CallerProcess]]:
    """Return a function that starts a caller: its arguments, or the command of one elsewhere."""
    started: list[CallerProcess] = []

    def start(*arguments: str, command: tuple[str, ...] = ()) -> CallerProcess:
        command = command or (sys.executable, "-m", "tests.cluster.caller")
        process = CallerProcess(*command, *arguments)
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()


class Pods:
    """Servers of one port on addresses of loopback, and the name that stands for those that are ready."""

    def __init__(self, start_server: Callable[..., Any], resolver: Resolver):
        self._start_server = start_server
        self._resolver = resolver
        with socket.create_server(("", 0)) as probe:
            self._port = probe.getsockname()[1]
        self._started = 0

    @property
    def target(self) -> str:
        """What a client calls."""
        return self._resolver.target(self._port)

    def start(self, models: Path) -> Any:
        """Start a server with an address and a release, and let the name stand for it too."""
        self._started += 1
        address = f"127.0.0.{self._started + 1}"
        pod = self._start_server(models, "--host", address, "--port", str(self._port), *_LIFE)
        self._resolver.addresses = [*self._resolver.addresses, address]
        pod.address = address
        pod.release = Release(*pod.wait_for(r"loaded fraud (\S+ sha256:\w+)").split())
        return pod

    def end(self, pod: Any) -> None:
        """Let the name stand for a server no more, and have it drain and end."""
        self._resolver.addresses = [each for each in self._resolver.addresses if each != pod.address]
        assert pod.stop() == 0


@pytest.fixture
def pods(start_server: Callable[..., Any], resolver: Resolver) -> Pods:
    """Return what starts and ends servers as a Deployment does."""
    return Pods(start_server, resolver)


@pytest.fixture
def versions(fraud_bundle: Path, tmp_path: Path) -> dict[str, Path]:
    """Return two models folders by version: the same forest in bundles of other digests."""
    folders = {}
    for version in ("1.0.0", "1.1.0"):
        folder = tmp_path / version / "fraud" / version
        shutil.copytree(fraud_bundle, folder)
        manifest = json.loads((folder / "manifest.json").read_bytes())
        (folder / "manifest.json").write_text(json.dumps(manifest | {"version": version}))
        folders[version] = folder.parents[1]
    return folders
