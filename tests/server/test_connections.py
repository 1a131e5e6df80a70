"""Counting the clients of a port."""

import socket
import time

import pytest

from server import connections


def _becomes(port: int, expected: int) -> bool:
    deadline = time.monotonic() + 5
    while connections.count(port) != expected:
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


@pytest.mark.skipif(connections.count(1) is None, reason="this system does not tell of its connections")
@pytest.mark.parametrize(
    ("host", "address"),
    [("127.0.0.1", "127.0.0.1"), ("::1", "::1"), ("::", "127.0.0.1")],
    ids=["IPv4", "IPv6", "IPv4 to [::]"],
)
def test_clients_of_a_port_are_counted_while_they_are_connected(host: str, address: str) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server((host, 0), family=family, dualstack_ipv6=host == "::")
    except (OSError, ValueError) as error:
        pytest.skip(f"no {host} here: {error}")
    with listener:
        port = listener.getsockname()[1]
        assert connections.count(port) == 0
        clients = [socket.create_connection((address, port)) for _ in range(3)]
        # Also those whom nobody has accepted yet.
        assert _becomes(port, 3)
        clients.pop().close()
        accepted = [listener.accept()[0] for _ in range(3)]
        assert _becomes(port, 2)
        for each in (*clients, *accepted):
            each.close()
        assert _becomes(port, 0)


def test_a_server_goes_on_where_the_kernel_does_not_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_arguments: object, **_named: object) -> str:
        raise PermissionError

    monkeypatch.setattr("pathlib.Path.read_text", refuse)
    assert connections.count(1) is None
