"""Work that takes long, on a thread of its own: step by step, and in turns."""

import logging
import os
import sys
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from queue import SimpleQueue

from server.call import Call, Work
from server.status import Code, StatusError

_log = logging.getLogger(__name__)

_SWITCH_INTERVAL = 0.0005

Done = Callable[[bytes | BaseException], None]


@dataclass(frozen=True, slots=True)
class _Task:
    work: Work
    call: Call
    done: Done


class Turns:
    """Does a step of each work in turn, so that a long one holds up no short one.

    The interpreter's lock is free while rows are scored, and so calls are answered meanwhile.

    Parameters
    ----------
    name
        The thread's name, for logs.
    """

    def __init__(self, name: str):
        self._queue: SimpleQueue[_Task | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Begin to work."""
        # What is decoded or written here keeps the lock. Who answers calls must not wait for it for 5 ms.
        sys.setswitchinterval(_SWITCH_INTERVAL)
        self._thread.start()

    def stop(self, grace: float) -> bool:
        """End when all work is done, and return whether it was within ``grace`` seconds."""
        self._queue.put(None)
        self._thread.join(grace)
        return not self._thread.is_alive()

    def add(self, work: Work, call: Call, done: Done) -> None:
        """Have work done for a call.

        Parameters
        ----------
        work
            What to do.
        call
            When it is cancelled, the rest of the work is not done.
        done
            Is called with what the work has returned or raised, in the thread of the turns.
        """
        self._queue.put(_Task(work, call, done))

    def _run(self) -> None:
        try:
            self._take_turns()
        except BaseException:
            # Nobody's work would be done any more, while health goes on to say that all is well.
            _log.critical("the thread %r has ended: so must the process", self._thread.name, exc_info=True)
            logging.shutdown()
            os._exit(1)

    def _take_turns(self) -> None:
        waiting: deque[_Task] = deque()
        stopping = False
        while waiting or not stopping:
            while not stopping and (not waiting or not self._queue.empty()):
                task = self._queue.get()
                if task is None:
                    stopping = True
                else:
                    waiting.append(task)
            if waiting:
                task = waiting.popleft()
                if not _step(task):
                    waiting.append(task)


def _step(task: _Task) -> bool:
    """Do a step; return whether it was the last."""
    result: bytes | BaseException
    try:
        if task.call.cancelled:
            task.work.close()
            result = StatusError(Code.CANCELLED, "the caller has gone")
        else:
            next(task.work)
            return False
    except StopIteration as stopped:
        result = stopped.value
        if type(result) is not bytes:
            result = TypeError(f"work has come to {type(result).__name__}, not bytes")
    except BaseException as error:
        result = error
    try:
        task.done(result)
    except BaseException:
        _log.exception("fault while handing over what work has come to")
    return True
