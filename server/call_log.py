"""A record of each call that has ended: how, for whom, and how long it took; never what was in it.

Each level has its fill in a second, so that a storm of failures is told of and does not flood the log.
"""

import logging
import threading
import time
from collections import Counter

from server import log, trace
from server.call import Call
from server.health import Health
from server.status import Code

_log = logging.getLogger(__name__)

_LEVELS: dict[int, int] = {
    Code.OK: logging.DEBUG,
    Code.DEADLINE_EXCEEDED: logging.WARNING,
    Code.RESOURCE_EXHAUSTED: logging.WARNING,
    Code.UNAVAILABLE: logging.WARNING,
    Code.INTERNAL: logging.ERROR,
}
# Other failures are faults of callers, or wishes.
_OTHERS = logging.INFO
# A client watches health on each connection for as long as it has it: that a watch is over means nothing.
_WATCH = f"{Health.name}/Watch"
_WATCH_IS_OVER = (Code.CANCELLED, Code.UNAVAILABLE)
# Who asks for debug has asked for all; a server that writes without an end serves no more, though.
_DEBUG_TIMES = 100
# A caller's own names are told so far.
_CHARACTERS = 128


def names(call: Call) -> dict[str, str]:
    """Return what a record tells of which call it is about, as far as that is known."""
    caller = trace.parent(call.metadata)
    known = {
        "request_id": call.request_id[:_CHARACTERS],
        "trace_id": caller.trace_id if caller else "",
        "model": call.model,
        "version": call.version,
        "caller": call.caller,
    }
    return {name: value for name, value in known.items() if value}


class CallLog:
    """Writes the records.

    Parameters
    ----------
    most
        So many of a level are written within ``seconds``, and of successes, which are told at level debug,
        100 times as many. Those beyond are counted, and their number is told.
    seconds
        See above.
    """

    def __init__(self, most: int = 10, seconds: float = 1.0):
        self._most = most
        self._seconds = seconds
        self._lock = threading.Lock()
        self._over = 0.0
        self._written: Counter[int] = Counter()
        self._left_out: Counter[tuple[int, int]] = Counter()

    def wants_successes(self) -> bool:
        """Return whether calls that ended well are to be told of."""
        return _log.isEnabledFor(logging.DEBUG)

    def ended(
        self,
        method: str,
        call: Call,
        code: int,
        took: int,
        span: trace.Span | None,
        *,
        unary: bool,
    ) -> None:
        """Write a record of a call that has ended, if its level is written and has not had its fill.

        Parameters
        ----------
        method
            Which was called, as ``package.Service/Method``.
        call
            The call.
        code
            Its status.
        took
            Its time, in ns.
        span
            Its span, if it is traced.
        unary
            Whether it was a call with one message. Others are ended with UNAVAILABLE when they come of age.
        """
        level = _LEVELS.get(code, _OTHERS) if unary or code != Code.UNAVAILABLE else _OTHERS
        if method == _WATCH and code in _WATCH_IS_OVER:
            level = logging.DEBUG
        if not _log.isEnabledFor(level) or not self._has_room(level, code):
            return
        fields: dict[str, object] = {"method": method, "code": _name(code), **names(call)}
        if span:
            fields |= {"trace_id": span.trace_id, "span_id": span.span_id}
        fields |= {"peer": call.peer(), "milliseconds": round(took / 1e6, 3)}
        _log.log(level, "call ended", extra=log.about(fields))

    def close(self) -> None:
        """Tell what has been left out since it was last told."""
        with self._lock:
            self._turn()

    def _has_room(self, level: int, code: int) -> bool:
        with self._lock:
            now = time.monotonic()
            if now >= self._over:
                self._turn()
                self._over = now + self._seconds
            if self._written[level] < self._most * (_DEBUG_TIMES if level == logging.DEBUG else 1):
                self._written[level] += 1
                return True
            if not self._left_out:
                # Told in time though no other call may come.
                timer = threading.Timer(self._over - now, self.close)
                timer.daemon = True
                timer.start()
            self._left_out[level, code] += 1
            return False

    def _turn(self) -> None:
        for (level, code), count in self._left_out.items():
            fields = {"code": _name(code), "calls": count}
            _log.log(level, "calls ended that are not told of one by one", extra=log.about(fields))
        self._left_out.clear()
        self._written.clear()


def _name(code: int) -> str:
    try:
        return Code(code).name
    except ValueError:
        return str(code)
