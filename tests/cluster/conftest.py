"""Callers without a cluster, and what they call: servers by a name that changes, as a headless Service's does."""

import socket
import struct
import threading
from collections.abc import Iterator

import pytest

NAME = "fraud-forest-headless.forest-staging"
_A, _INTERNET, _NO_SUCH_NAME = 1, 1, 3


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
