"""What came of calls, method by method: how many there were, how they ended, and where their time went."""

import threading
from bisect import bisect_left

from server.call import Call, Exchange, Method, Subscription, Unary
from server.status import Code
from server.store import Store

BOUNDS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0)
"""Upper bounds of the histograms of time, in seconds."""
PHASES = ("wait", "decode", "run", "encode")
"""Where the time of a call that scores rows goes: until its turn comes, until its rows are decoded and found
good, until they are scored, and until the answer is made."""

_NS = tuple(round(bound * 1e9) for bound in BOUNDS)
_BUCKETS = len(BOUNDS) + 1
_TYPES = {Unary: "unary", Exchange: "bidi_stream", Subscription: "server_stream"}
_UNKNOWN = "unknown"
_GO = {0: "OK", 1: "Canceled"}


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

    Attributes
    ----------
    service, name : str
        Of the method.
    """

    def __init__(self, store: Store, path: str, method: Method | None = None):
        _, self.service, self.name = path.split("/") if path else ("", _UNKNOWN, _UNKNOWN)
        self._store = store
        self._lock = threading.Lock()
        place = {"grpc_service": self.service, "grpc_method": self.name}
        self._labels = {"grpc_type": _TYPES[type(method)] if method else "unary"} | place
        self._streams = isinstance(method, Exchange | Subscription)
        self._started = store.cells("grpc_server_started_total", self._labels)
        self._received = store.cells("grpc_server_msg_received_total", self._labels)
        self._sent = store.cells("grpc_server_msg_sent_total", self._labels)
        self._handling = store.cells("grpc_server_handling_seconds", self._labels, _BUCKETS + 1)
        self._handled: dict[int, memoryview] = {}
        self._count_handled(Code.OK)
        self._phases: tuple[memoryview, ...] = ()
        self._place = place

    def started(self) -> None:
        """Count a call that has come. From the front's one thread."""
        self._started[0] += 1

    def received(self) -> None:
        """Count a message that has come. From the front's one thread."""
        self._received[0] += 1

    def answered(self, call: Call) -> None:
        """Take note of a message that is answered: the call's marks say where the time went."""
        with self._lock:
            self._sent[0] += 1
            scored = call.scored
            if scored:
                begun, decoded = call.begun, call.decoded
                if not self._phases:
                    self._phases = tuple(
                        self._store.cells(
                            "forest_call_phase_seconds", self._place | {"phase": phase}, _BUCKETS + 1
                        )
                        for phase in PHASES
                    )
                wait, decode, run, encode = self._phases
                took = begun - call.arrived
                wait[bisect_left(_NS, took)] += 1
                wait[_BUCKETS] += took
                took = decoded - begun
                decode[bisect_left(_NS, took)] += 1
                decode[_BUCKETS] += took
                took = scored - decoded
                run[bisect_left(_NS, took)] += 1
                run[_BUCKETS] += took
                took = call.finished - scored
                encode[bisect_left(_NS, took)] += 1
                encode[_BUCKETS] += took

    def ended(self, call: Call, code: int, now: int) -> None:
        """Take note of a call's end.

        Parameters
        ----------
        call
            Which one.
        code
            Its status.
        now
            When, in ns of `time.perf_counter_ns`.
        """
        took = now - call.opened
        with self._lock:
            handled = self._handled.get(code) or self._count_handled(code)
            handled[0] += 1
            self._handling[bisect_left(_NS, took)] += 1
            self._handling[_BUCKETS] += took

    def _count_handled(self, code: int) -> memoryview:
        cells = self._store.cells("grpc_server_handled_total", self._labels | {"grpc_code": code_name(code)})
        self._handled[code] = cells
        return cells


class Calls:
    """The calls of every method that there is.

    Parameters
    ----------
    store
        Where they are counted; None for one of its own.
    """

    def __init__(self, store: Store | None = None):
        self._store = store or Store()

    def of(self, path: str, method: Method | None = None) -> MethodCalls:
        """Return the calls of a method; without one, those of paths that are none."""
        return MethodCalls(self._store, path, method)
