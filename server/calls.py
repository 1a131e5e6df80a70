"""What came of calls, method by method: how many there were, how they ended, and where their time went."""

import logging
import threading
from collections import deque
from collections.abc import Sequence
from itertools import chain
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from server.call import Call, Exchange, Method, Subscription, Unary
from server.call_log import CallLog
from server.status import Code
from server.store import Store

if TYPE_CHECKING:
    from server.tracing import Tracing

_log = logging.getLogger(__name__)

BOUNDS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0)
"""Upper bounds of the histograms of time, in seconds."""
PHASES = ("wait", "decode", "run", "encode")
"""Where the time of a call that scores rows goes: until its turn comes, until its rows are decoded and found
good, until they are scored, and until the answer is made."""

_NS = np.array([round(bound * 1e9) for bound in BOUNDS])
# The buckets, the one above the last bound among them, and the sum.
_CELLS = len(BOUNDS) + 2
_TYPES = {Unary: "unary", Exchange: "bidi_stream", Subscription: "server_stream"}
_UNKNOWN = "unknown"
_GO = {0: "OK", 1: "Canceled"}
# Of a note: the marks of a call from `opened` to `finished`, and when it ended.
_SCORED, _ENDED = 4, 6
_NOTE = 7
# Times of so many are put into buckets at once: one by one a call costs twice as much.
_NOTED = 256


End = tuple[Call, int, int, bool]
"""A call that has ended: its status, when, as its marks are, and whether a message went with the status."""


def code_name(code: int) -> str:
    """Return a status code as Go spells it, as metrics have it everywhere: ``InvalidArgument``."""
    return _GO.get(code) or Code(code).name.title().replace("_", "")


class MethodCalls:
    """The calls of one method.

    Parameters
    ----------
    store
        Where they are counted.
    path
        The method's, as ``/package.Service/Method``; empty for paths that are no method's.
    method
        What it is.
    log
        Tells of calls that have ended; None for nowhere.
    tracing
        Makes spans of them, if they are traced; None for none.

    Attributes
    ----------
    service, name : str
        Of the method.
    """

    def __init__(
        self,
        store: Store,
        path: str,
        method: Method | None = None,
        *,
        log: CallLog | None = None,
        tracing: "Tracing | None" = None,
    ):
        _, self.service, self.name = path.split("/") if path else ("", _UNKNOWN, _UNKNOWN)
        self._store = store
        self._log = log
        self._tracing = tracing
        self._streams = isinstance(method, Exchange | Subscription)
        self._lock = threading.Lock()
        self._place = {"grpc_service": self.service, "grpc_method": self.name}
        self._labels = {"grpc_type": _TYPES[type(method)] if method else "unary"} | self._place
        self._started = store.cells("grpc_server_started_total", self._labels)
        self._received = store.cells("grpc_server_msg_received_total", self._labels)
        self._sent = store.cells("grpc_server_msg_sent_total", self._labels)
        self._handling = store.cells("grpc_server_handling_seconds", self._labels, _CELLS)
        self._handled: dict[int, memoryview] = {}
        self._succeeded = self._handled_of(Code.OK)
        # Any thread adds to it, without a lock.
        self._notes: deque[tuple[int, ...]] = deque()
        self._phases: Sequence[memoryview] = ()

    def started(self) -> None:
        """Count a call that has come. From the front's one thread."""
        self._started[0] += 1

    def received(self) -> None:
        """Count a message that has come. From the front's one thread."""
        self._received[0] += 1

    def answered(self, call: Call) -> None:
        """Take note of a message that is answered while its call goes on."""
        with self._lock:
            self._sent[0] += 1
        if call.scored:
            self._note([_marks(call, 0)])

    def ended(self, call: Call, code: int, now: int, *, answered: bool = False) -> None:
        """Take note of a call's end.

        Parameters
        ----------
        call
            Which one.
        code
            Its status.
        now
            When, in ns of `time.perf_counter_ns`.
        answered
            Whether a message went with the status.
        """
        self.ended_together([(call, code, now, answered)])

    def ended_together(self, ends: Sequence[End]) -> None:
        """Take note of the ends of some calls: in a burst of 32, that costs a fifth of one by one.

        What runs once for each call has to be fetched each time, as the processor has forgotten it.
        """
        log = self._log
        told = bool(self._tracing or (log and log.wants_successes()))
        succeeded = sent = 0
        with self._lock:
            for call, code, _, answered in ends:
                if code:
                    self._handled_of(code)[0] += 1
                else:
                    succeeded += 1
                if answered:
                    sent += 1
                else:
                    # Whatever was scored was answered before, or will never be.
                    call.scored = 0
            self._succeeded[0] += succeeded
            self._sent[0] += sent
        self._note([_marks(call, now) for call, _, now, _ in ends])
        if told or (log and succeeded < len(ends)):
            for call, code, now, _ in ends:
                if told or code:
                    try:
                        self._tell(call, code, now)
                    except Exception:
                        # The call has been answered, and the others are to be.
                        _log.exception("fault while telling of a call")

    def flush(self) -> None:
        """Put what was noted of times where it is read."""
        with self._lock:
            # Others go on adding meanwhile.
            notes = [self._notes.popleft() for _ in range(len(self._notes))]
            if notes:
                times = np.fromiter(chain.from_iterable(notes), np.int64, _NOTE * len(notes))
                self._count_times(times.reshape(-1, _NOTE))

    def _tell(self, call: Call, code: int, now: int) -> None:
        method = f"{self.service}/{self.name}"
        span = None
        if self._tracing:
            span = self._tracing.ended(method, call, code, now, unary=not self._streams)
        if self._log:
            self._log.ended(method, call, code, now - call.opened, span, unary=not self._streams)

    def _note(self, marks: Sequence[tuple[int, ...]]) -> None:
        self._notes.extend(marks)
        if len(self._notes) >= _NOTED:
            self.flush()

    def _count_times(self, notes: NDArray[np.int64]) -> None:
        ended = notes[notes[:, _ENDED] > 0]
        if len(ended):
            _add(self._handling, ended[:, _ENDED] - ended[:, 0])
        scored = notes[notes[:, _SCORED] > 0]
        if len(scored):
            if not self._phases:
                self._phases = [
                    self._store.cells("forest_call_phase_seconds", self._place | {"phase": phase}, _CELLS)
                    for phase in PHASES
                ]
            for cells, took in zip(self._phases, np.diff(scored[:, 1:_ENDED]).T, strict=True):
                _add(cells, took)

    def _handled_of(self, code: int) -> memoryview:
        cells = self._handled.get(code)
        if cells is None:
            cells = self._store.cells(
                "grpc_server_handled_total", self._labels | {"grpc_code": code_name(code)}
            )
            self._handled[code] = cells
        return cells


class Calls:
    """The calls of every method that there is.

    Parameters
    ----------
    store
        Where they are counted; None for one of its own.
    log, tracing
        As of `MethodCalls`.
    """

    def __init__(
        self, store: Store | None = None, log: CallLog | None = None, tracing: "Tracing | None" = None
    ):
        self._store = store or Store()
        self._log = log
        self._tracing = tracing
        self._methods: list[MethodCalls] = []

    def of(self, path: str, method: Method | None = None) -> MethodCalls:
        """Return the calls of a method; without one, those of paths that are none."""
        calls = MethodCalls(self._store, path, method, log=self._log, tracing=self._tracing)
        self._methods.append(calls)
        return calls

    def flush(self) -> None:
        """Put what was noted of every method's times where it is read."""
        for calls in self._methods:
            calls.flush()


def _marks(call: Call, now: int) -> tuple[int, ...]:
    return call.opened, call.arrived, call.begun, call.decoded, call.scored, call.finished, now


def _add(cells: memoryview, times: NDArray[np.int64]) -> None:
    """Add times, in ns, to the cells of a histogram."""
    found = np.bincount(_NS.searchsorted(times, "left"), minlength=_CELLS)
    found[-1] = times.sum()
    whole = np.asarray(cells)
    np.add(whole, found, out=whole)
