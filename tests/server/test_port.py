"""A port that several processes share is held against everybody else."""

import socket

import pytest

from server.port import SharedPort, taken


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "0.0.0.0", "[::]"])
def test_a_held_port_is_taken_for_others_and_not_for_those_who_share_it(host: str) -> None:
    port = SharedPort(host, 0)
    try:
        assert port.number
        assert taken(f"{host}:{port.number}")
        with pytest.raises(OSError, match="is something else listening there"):
            SharedPort(host, port.number)
        with socket.socket() as alone, pytest.raises(OSError, match="in use"):
            alone.bind(("127.0.0.1", port.number))
        for _ in range(2):
            with socket.socket() as sharer:
                sharer.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
                sharer.bind(("127.0.0.1" if host != "0.0.0.0" else host, port.number))
                sharer.listen()
    finally:
        port.close()
    assert not taken(f"{host}:{port.number}")


@pytest.mark.parametrize("shares", [False, True])
def test_a_port_where_another_listens_is_refused(shares: bool) -> None:
    with socket.socket() as other:
        # Also one who would share it.
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, int(shares))
        other.bind(("127.0.0.1", 0))
        other.listen()
        number = other.getsockname()[1]
        with pytest.raises(OSError, match=f"cannot listen on localhost:{number}"):
            SharedPort("localhost", number)


def test_a_host_that_is_none_is_refused() -> None:
    with pytest.raises(OSError, match=r"cannot listen on 192\.0\.2\.1:"):
        SharedPort("192.0.2.1", 0)
