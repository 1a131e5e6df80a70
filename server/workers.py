"""Workers: several processes that serve on one port, and the supervisor that starts and replaces them.

The supervisor imports neither grpc nor ONNX Runtime: a process in which those have threads cannot be forked.
It answers nobody. Each worker has a listener of its own on the API's port and on the health port, and the
kernel gives each new connection to one of them. See docs/decisions/0009-workers.md.
"""

import json
import logging
import mmap
import os
import selectors
import signal
import socket
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from queue import SimpleQueue
from types import FrameType
from typing import NoReturn

from server.config import Config
from server.port import SharedPort, listen
from server.store import SIZE, Store

_log = logging.getLogger(__name__)

LOG_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"

_POLL = 0.05
# A worker that ends more often than this, within so many seconds, ends the server.
_ENDS, _WITHIN = 5, 60.0
_STOP = b'"stop"'
# A message is the state of each health service: some dozens of bytes for each model.
_MESSAGE_BYTES = 1 << 20
_SIGNALS = (signal.SIGTERM, signal.SIGINT)

States = Mapping[str, bool]
"""Whether each health service serves, by name."""


class Line:
    """A worker's line to its supervisor. The end of the supervisor is a word to stop, too.

    Parameters
    ----------
    end
        The worker's end of it.
    states
        What the workers were in together when this one was started.
    """

    def __init__(self, end: socket.socket, states: States):
        self._end = end
        self.states = states

    def tell(self, states: States) -> None:
        """Tell the supervisor what this worker is in."""
        try:
            self._end.send(json.dumps(states).encode())
        except OSError:
            # It has gone, and `listen` hears so.
            return

    def listen(self, heard: Callable[[States], None], stop: Callable[[], None]) -> None:
        """Hear, from now on, what the workers are in together, and the word to stop."""
        threading.Thread(target=self._listen, args=(heard, stop), name="supervisor", daemon=True).start()

    def _listen(self, heard: Callable[[States], None], stop: Callable[[], None]) -> None:
        while True:
            try:
                message = self._end.recv(_MESSAGE_BYTES)
            except OSError:
                message = b""
            if not message:
                _log.error("the supervisor has gone")
            if message in (b"", _STOP):
                stop()
            if not message:
                return
            if message != _STOP:
                heard(json.loads(message))


# What a process leaves in its store that is true no longer, once it has ended.
_OF_THE_LIVING = ("forest_rows_in_flight", "forest_serving", "model")


@dataclass(slots=True)
class _Worker:
    """A process that the supervisor has started. Number 0 serves no calls: it is the exporter of metrics."""

    number: int
    process: int
    end: socket.socket
    states: States = field(default_factory=dict)

    def __str__(self) -> str:
        return _name(self.number)


class Supervisor:
    """Keeps workers running until it is told to stop.

    Parameters
    ----------
    config
        The settings.
    workers
        How many there are.

    Raises
    ------
    OSError
        If something else listens on a port.
    """

    def __init__(self, config: Config, workers: int):
        self._port = SharedPort(config.host, config.port)
        self._health_port = SharedPort(config.host, config.health_port)
        self._metrics_listeners = listen(config.host, config.metrics_port) if config.metrics_port else []
        self._config = replace(config, port=self._port.number, health_port=self._health_port.number)
        self._count = workers
        self._workers: dict[int, _Worker] = {}
        self._exporter: _Worker | None = None
        # What each counts in, by its number; the first is the supervisor's own. A worker goes on from the
        # counts of the one before it.
        self._stores = [Store(mmap.mmap(-1, SIZE)) for _ in range(workers + 1)]
        self._alive = self._stores[0].cells("forest_workers", {})
        self._ended = self._stores[0].cells("forest_worker_ends_total", {})
        self._ends: dict[int, list[float]] = defaultdict(list)
        self._states: dict[str, bool] = {}
        # It keeps nothing in the kernel that a fork would share.
        self._selector = selectors.PollSelector()
        self._told_to_stop: SimpleQueue[int] = SimpleQueue()
        self._ready = False
        self._stopping = False
        self._status = 0

    def run(self) -> int:
        """Start the workers, replace those that end, and stop them when told to; return the exit status."""
        for number in _SIGNALS:
            signal.signal(number, self._on_signal)
        _log.info(
            "STARTING: %d workers on port %d, health on port %d",
            *(self._count, self._config.port, self._config.health_port),
        )
        if self._metrics_listeners:
            self._start(0)
        # The first goes ahead: what keeps all from starting is told once.
        self._start(1)
        while self._workers:
            for key, _ in self._selector.select(_POLL):
                self._hear(key.data)
            if not self._stopping and not self._told_to_stop.empty():
                self._stop()
        if self._exporter:
            os.kill(self._exporter.process, signal.SIGKILL)
            os.waitpid(self._exporter.process, 0)
        _log.info("all workers have ended")
        return self._status

    def _start(self, number: int) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        process = os.fork()
        if not process:
            ours.close()
            self._work(number, theirs)
        theirs.close()
        worker = _Worker(number, process, ours)
        if number:
            self._workers[number] = worker
        else:
            self._exporter = worker
        self._take_note()
        self._selector.register(ours, selectors.EVENT_READ, worker)
        _log.info("%s is process %d", worker, process)

    def _work(self, number: int, end: socket.socket) -> NoReturn:
        """Be a worker, or the exporter, in a process of its own."""
        status = 1
        try:
            # They come to the whole group, and the supervisor says what they mean.
            for each in _SIGNALS:
                signal.signal(each, signal.SIG_IGN)
            # Only who holds the other end keeps a line open.
            for worker in self._processes():
                worker.end.close()
            form = LOG_FORMAT.replace("%(message)s", f"{_name(number)}: %(message)s")
            for handler in logging.getLogger().handlers:
                handler.setFormatter(logging.Formatter(form))
            if number:
                self._serve(number, end)
            else:
                self._export(end)
            status = 0
        except (OSError, ValueError) as error:
            print(f"forest-serve: {error}", file=sys.stderr)
        except BaseException:
            _log.critical("fault of the worker", exc_info=True)
        finally:
            logging.shutdown()
            os._exit(status)

    def _serve(self, number: int, end: socket.socket) -> None:
        from server.server import Server  # noqa: PLC0415 - in this process alone

        for each in self._metrics_listeners:
            each.close()
        Server(self._config, Line(end, dict(self._states)), self._stores[number]).run()

    def _export(self, end: socket.socket) -> None:
        from server.exporter import Exporter  # noqa: PLC0415 - in this process alone

        Exporter(
            *(self._metrics_listeners, self._stores, self._config.drift_window), process=os.getppid()
        ).serve(end)

    def _hear(self, worker: _Worker) -> None:
        try:
            message = worker.end.recv(_MESSAGE_BYTES)
        except OSError:
            message = b""
        if not message:
            self._bury(worker)
            return
        worker.states = json.loads(message)
        self._tell()
        if not self._ready:
            self._ready = True
            for number in range(2, self._count + 1):
                if not self._stopping:
                    self._start(number)

    def _bury(self, worker: _Worker) -> None:
        """Take note of a process' end, and start another in its place."""
        self._selector.unregister(worker.end)
        worker.end.close()
        if worker.number:
            del self._workers[worker.number]
        else:
            self._exporter = None
        code = os.waitstatus_to_exitcode(os.waitpid(worker.process, 0)[1])
        how = f"by {signal.Signals(-code).name}" if code < 0 else f"with status {code}"
        self._take_note()
        store = self._stores[worker.number]
        for (name, labels), values in store.read().items() if worker.number else ():
            if name in _OF_THE_LIVING:
                store.cells(name, dict(labels), len(values))[0] = 0
        self._tell()
        if self._stopping:
            if code and worker.number:
                _log.error("%s, process %d, ended %s", worker, worker.process, how)
                self._status = 1
            return
        self._ended[0] += bool(worker.number)
        _log.error("%s, process %d, ended %s unasked", worker, worker.process, how)
        now = time.monotonic()
        ends = self._ends[worker.number] = [
            *(each for each in self._ends[worker.number] if now - each < _WITHIN),
            now,
        ]
        often = f"{worker} ended {len(ends)} times within {_WITHIN:g} s"
        if not worker.number:
            self._replace_exporter(often if len(ends) > _ENDS else "")
        elif not self._ready:
            _log.critical("the first worker did not start: the server ends")
            self._status = 1
            self._stop()
        elif len(ends) > _ENDS:
            _log.critical("%s: the server ends", often)
            self._status = 1
            self._stop()
        else:
            self._start(worker.number)

    def _replace_exporter(self, often: str) -> None:
        """Start another exporter, unless they end too often: calls are served without one."""
        if not often:
            self._start(0)
            return
        _log.critical("%s: there are no metrics from now on", often)
        for each in self._metrics_listeners:
            each.close()

    def _processes(self) -> list[_Worker]:
        return [*self._workers.values(), *([self._exporter] if self._exporter else [])]

    def _take_note(self) -> None:
        """Let metrics tell which processes there are."""
        self._alive[0] = len(self._workers)
        processes = {worker.number: worker.process for worker in self._processes()}
        for number in range(self._count + 1):
            self._stores[0].cells("process", {"number": str(number)})[0] = processes.get(number, 0)

    def _tell(self) -> None:
        """Tell the workers what they are in together: whatever one of them serves is served."""
        together = dict.fromkeys(self._states, False)
        for worker in self._workers.values():
            for name, serving in worker.states.items():
                together[name] = together.get(name, False) or serving
        if together != self._states:
            self._states = together
            self._send(json.dumps(together).encode())

    def _stop(self) -> None:
        self._stopping = True
        self._send(_STOP)

    def _send(self, message: bytes) -> None:
        for worker in self._workers.values():
            try:
                worker.end.send(message, socket.MSG_DONTWAIT)
            except OSError:
                # It has ended, and is about to be heard of; or it has not listened for a hundred messages.
                continue

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        for each in _SIGNALS:
            signal.signal(each, self._end)
        self._told_to_stop.put(number)

    def _end(self, number: int, _frame: FrameType | None) -> NoReturn:
        for worker in self._processes():
            os.kill(worker.process, signal.SIGKILL)
        os._exit(128 + number)


def _name(number: int) -> str:
    return f"worker {number}" if number else "exporter"
