"""The port of metrics: it answers Prometheus by HTTP, plaintext, apart from calls."""

import logging
import selectors
import socket
import threading
import time
from collections.abc import Sequence
from typing import cast

from prometheus_client import CollectorRegistry, MetricsHandler

from server.drift import Drift
from server.metrics import Metrics
from server.store import Store

_log = logging.getLogger(__name__)

PATH = "/metrics"

_POLL = 0.5
# A scrape takes some ms. Who is slower than this, to ask and then to read, is sent away.
_ASKING, _TIMEOUT = 2.0, 10.0
# So many are answered at once, each by a thread. For one more the one that has been asking for the longest is
# sent away; or else one that has been answered for so long. It has some time to end.
_CONNECTIONS = 8
_SLOW, _ENDING = 1.0, 0.5


class Exporter:
    """Answers who asks for metrics.

    Parameters
    ----------
    listeners
        Sockets that listen.
    stores
        What the server's processes count in.
    drift_window
        Over how many seconds drift is judged.
    process
        The server's: the supervisor where there are workers.
    """

    def __init__(
        self, listeners: Sequence[socket.socket], stores: Sequence[Store], drift_window: float, process: int
    ):
        self._listeners = listeners
        for each in listeners:
            each.setblocking(False)
        self._drift = Drift(drift_window)
        self._metrics = Metrics(stores, self._drift, process)
        registry = CollectorRegistry()
        registry.register(self._metrics)
        self._handler = _Handler.factory(registry)
        # Held by who changes the next two; it tells when somebody has left.
        self._left = threading.Condition()
        # Who asks, and who is answered, and until when each may. Who came first comes first.
        self._asking: dict[socket.socket, float] = {}
        self._answered: dict[socket.socket, float] = {}

    def start(self) -> None:
        """Serve for as long as the process lives, on a thread."""
        threading.Thread(target=self.serve, name="metrics", daemon=True).start()

    def serve(self, end: socket.socket | None = None) -> None:
        """Serve until the other end of a socket is closed; without one, for ever."""
        number = self._listeners[0].getsockname()[1]
        _log.info("metrics on port %d", number)
        with selectors.DefaultSelector() as selector:
            for each in (*self._listeners, *([end] if end else [])):
                selector.register(each, selectors.EVENT_READ, each)
            look = time.monotonic()
            while True:
                for key, _ in selector.select(_POLL):
                    if key.data is end:
                        return
                    self._accept(key.data)
                self._send_away()
                if time.monotonic() >= look:
                    self._look()
                    look = time.monotonic() + self._drift.block

    def _look(self) -> None:
        try:
            self._metrics.look()
        except Exception:
            _log.exception("fault while drift was looked at")

    def _accept(self, listener: socket.socket) -> None:
        try:
            connection, address = listener.accept()
        except (BlockingIOError, ConnectionAbortedError):
            # It has gone again.
            return
        except OSError as error:
            _log.warning("cannot answer who asks for metrics: %s", error)
            time.sleep(_POLL)
            return
        with self._left:
            room = self._make_room()
            if room:
                self._asking[connection] = time.monotonic() + _ASKING
        if not room:
            connection.close()
            return
        thread = threading.Thread(target=self._answer, args=(connection, address), name="scrape", daemon=True)
        try:
            thread.start()
        except RuntimeError as error:
            # The process may have no more threads now.
            _log.warning("cannot answer who asks for metrics: %s", error)
            self._leave(connection)

    def asked(self, connection: socket.socket) -> None:
        """Take note that the whole of a question has come."""
        with self._left:
            if self._asking.pop(connection, None):
                self._answered[connection] = time.monotonic() + _TIMEOUT

    def _make_room(self) -> bool:
        """Return whether one more may be answered. The lock is held."""

        def has_room() -> bool:
            return len(self._asking) + len(self._answered) < _CONNECTIONS

        if not has_room():
            since = time.monotonic() + _TIMEOUT - _SLOW
            slow = (each for each, until in self._answered.items() if until <= since)
            if slowest := next(iter(self._asking), next(slow, None)):
                _end(slowest)
        return self._left.wait_for(has_room, _ENDING)

    def _leave(self, connection: socket.socket) -> None:
        with self._left:
            self._asking.pop(connection, None)
            self._answered.pop(connection, None)
            # Not before: its number may be another's then.
            connection.close()
            self._left.notify()

    def _answer(self, connection: socket.socket, address: object) -> None:
        try:
            self._handler(connection, address, self)
        except OSError:
            # It has gone, or was too slow.
            pass
        except Exception:
            _log.exception("fault while metrics were made")
        finally:
            self._leave(connection)

    def _send_away(self) -> None:
        """End the connections that have had their time, whatever they are at."""
        with self._left:
            now = time.monotonic()
            for connection, until in (*self._asking.items(), *self._answered.items()):
                if now >= until:
                    _end(connection)


def _end(connection: socket.socket) -> None:
    try:
        connection.shutdown(socket.SHUT_RDWR)
    except OSError:
        # It has gone.
        return


class _Handler(MetricsHandler):
    server_version, sys_version = "forest-serve", ""
    # Of one read or write. All together are bounded by who calls this.
    timeout = _TIMEOUT

    def do_GET(self) -> None:  # noqa: N802 - by this name it is called
        cast("Exporter", self.server).asked(self.connection)
        if self.path.partition("?")[0] == PATH:
            super().do_GET()
        else:
            self.send_error(404, f"metrics are at {PATH}")
