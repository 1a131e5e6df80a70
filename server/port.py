"""Ports: whether one is taken, and how several processes share one."""

import errno
import socket
from collections.abc import Iterator
from typing import Any

_TRIES = 20
_Address = tuple[socket.AddressFamily, socket.SocketKind, int, Any]


def taken(address: str) -> bool:
    """Return whether something listens on a port at any address of a name, as ``localhost:50051``.

    The C core is content with one address of several. If a port is taken at 127.0.0.1 alone, it would listen
    at ::1, and a part of the calls to ``localhost`` would go to somebody else.
    """
    host, _, port = address.rpartition(":")
    if port == "0":
        return False
    for family, kind, protocol, where in _addresses(host, int(port)):
        try:
            with socket.socket(family, kind, protocol) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind(where)
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                return True
            # Any other, as an address that this machine has not, is for the C core to judge.
    return False


def listen(host: str, port: int) -> list[socket.socket]:
    """Listen on a port at every address of a host, and return the sockets.

    Raises
    ------
    OSError
        If something else listens there, or this machine has no such address.
    """
    sockets: list[socket.socket] = []
    # Where there is no IPv6, every address is every one of IPv4.
    for name in (host, "0.0.0.0") if host.strip("[]") == "::" else (host,):  # noqa: S104 - it was asked for
        for family, kind, protocol, where in () if sockets else _addresses(name, port):
            try:
                listener = socket.socket(family, kind, protocol)
            except OSError:
                continue
            sockets.append(listener)
            try:
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                listener.bind(where)
                listener.listen()
            except OSError as error:
                sockets.pop().close()
                if error.errno == errno.EADDRINUSE:
                    for each in sockets:
                        each.close()
                    raise _cannot_listen(host, port) from error
    if not sockets:
        raise _cannot_listen(host, port)
    return sockets


class SharedPort:
    """A port that several processes may listen on, each with a listener of its own (SO_REUSEPORT).

    It is held by sockets that do not listen: the kernel gives them no connection.

    Parameters
    ----------
    host
        Where to listen.
    port
        Which port; 0 takes any that is free.

    Attributes
    ----------
    number : int
        The port.

    Raises
    ------
    OSError
        If something else listens there.
    """

    def __init__(self, host: str, port: int):
        self._sockets: list[socket.socket] = []
        for _ in range(_TRIES):
            self.number = port
            if not taken(f"{host}:{port}") and self._hold(host):
                return
            self.close()
            if port:
                break
        raise _cannot_listen(host, port)

    def close(self) -> None:
        """Hold it no longer."""
        for each in self._sockets:
            each.close()
        self._sockets.clear()

    def _hold(self, host: str) -> bool:
        """Bind to each address of the host, and return whether one could be bound and none was taken."""
        for family, kind, protocol, where in _addresses(host, self.number):
            holder = socket.socket(family, kind, protocol)
            holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            try:
                # The first tells which port a 0 has become.
                holder.bind((where[0], self.number, *where[2:]))
            except OSError as error:
                holder.close()
                if error.errno == errno.EADDRINUSE:
                    return False
                continue
            self._sockets.append(holder)
            self.number = holder.getsockname()[1]
        return bool(self._sockets)


def _cannot_listen(host: str, port: int) -> OSError:
    return OSError(f"cannot listen on {host}:{port}: is something else listening there?")


def _addresses(host: str, port: int) -> Iterator[_Address]:
    # The C core takes `localhost` for both, whatever the system's own names say.
    for name in ("127.0.0.1", "::1") if host == "localhost" else (host.strip("[]"),):
        try:
            found = socket.getaddrinfo(name, port, type=socket.SOCK_STREAM)
        except OSError:
            continue
        for family, kind, protocol, _, where in found:
            yield family, kind, protocol, where
