"""How many clients are connected to a port, as the kernel knows it."""

from pathlib import Path

_ESTABLISHED = "01"


def count(port: int) -> int | None:
    """Return how many TCP connections a local port has; None where the kernel does not tell.

    Those that nobody has accepted yet count. Those that either end has begun to close do not: no call comes
    over them any more. The same port on another of the machine's addresses is not told apart.
    """
    found = None
    for table in (Path("/proc/self/net/tcp"), Path("/proc/self/net/tcp6")):
        try:
            lines = table.read_text().splitlines()[1:]
        except OSError:
            continue
        # Columns: number, local ADDRESS:PORT in hexadecimal, remote ADDRESS:PORT, state, ...
        connections = (line.split(maxsplit=4)[1:4] for line in lines)
        found = (found or 0) + sum(
            state == _ESTABLISHED and int(local.rpartition(":")[2], 16) == port
            for local, _remote, state in connections
        )
    return found
