"""Workers: several processes that serve on one port, and the supervisor that starts and replaces them.

The supervisor imports neither grpc nor ONNX Runtime: a process in which those have threads cannot be forked.
It answers nobody. Each worker has a listener of its own on the API's port and on the health port, and the
kernel gives each new connection to one of them. See docs/decisions/0009-workers.md.
"""

import json
import logging
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

from server import log
from server.config import Config
from server.followed import INTERVAL
from server.port import SharedPort

_log = logging.getLogger(__name__)

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


@dataclass(slots=True)
class _Worker:
    number: int
    process: int
    end: socket.socket
    states: States = field(default_factory=dict)


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
        self._config = replace(config, port=self._port.number, health_port=self._health_port.number)
        file = config.log_level_file
        self._level_file = log.LevelFile(file, config.log_level) if file else None
        self._count = workers
        self._workers: dict[int, _Worker] = {}
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
        # The first goes ahead: what keeps all from starting is told once.
        self._start(1)
        look = time.monotonic() + INTERVAL
        while self._workers:
            for key, _ in self._selector.select(_POLL):
                self._hear(key.data)
            # Not by a thread, as in a worker: a process that has threads cannot be forked.
            if self._level_file and time.monotonic() >= look:
                self._level_file.look()
                look = time.monotonic() + INTERVAL
            if not self._stopping and not self._told_to_stop.empty():
                self._stop()
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
        self._workers[number] = worker
        self._selector.register(ours, selectors.EVENT_READ, worker)
        _log.info("worker %d is process %d", number, process)

    def _work(self, number: int, end: socket.socket) -> NoReturn:
        """Be a worker, in a process of its own."""
        status = 1
        try:
            # They come to the whole group, and the supervisor says what they mean.
            for each in _SIGNALS:
                signal.signal(each, signal.SIG_IGN)
            # Only who holds the other end keeps a line open.
            for worker in self._workers.values():
                worker.end.close()
            log.tell_worker(number)
            from server.server import Server  # noqa: PLC0415 - in this process alone

            Server(self._config, Line(end, dict(self._states))).run()
            status = 0
        except (OSError, ValueError) as error:
            print(f"forest-serve: {error}", file=sys.stderr)
        except BaseException:
            _log.critical("fault of the worker", exc_info=True)
        finally:
            logging.shutdown()
            os._exit(status)

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
        """Take note of a worker's end, and start another in its place."""
        self._selector.unregister(worker.end)
        worker.end.close()
        del self._workers[worker.number]
        code = os.waitstatus_to_exitcode(os.waitpid(worker.process, 0)[1])
        how = f"by {signal.Signals(-code).name}" if code < 0 else f"with status {code}"
        self._tell()
        if self._stopping:
            if code:
                _log.error("worker %d, process %d, ended %s", worker.number, worker.process, how)
                self._status = 1
            return
        _log.error("worker %d, process %d, ended %s unasked", worker.number, worker.process, how)
        now = time.monotonic()
        ends = self._ends[worker.number] = [
            *(each for each in self._ends[worker.number] if now - each < _WITHIN),
            now,
        ]
        if not self._ready:
            _log.critical("the first worker did not start: the server ends")
            self._status = 1
            self._stop()
        elif len(ends) > _ENDS:
            _log.critical(
                "worker %d ended %d times within %g s: the server ends", worker.number, len(ends), _WITHIN
            )
            self._status = 1
            self._stop()
        else:
            self._start(worker.number)

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
        for worker in tuple(self._workers.values()):
            os.kill(worker.process, signal.SIGKILL)
        os._exit(128 + number)
