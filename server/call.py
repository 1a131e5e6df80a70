"""What the core knows of a call, and the kinds of method that a front carries. No transport is known here."""

import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass

Metadata = Sequence[tuple[str, str | bytes]]


class Call:
    """The context of one call.

    Attributes
    ----------
    deadline : float
        Seconds since the epoch; far in the future if the caller set none.
    metadata : sequence of (str, str or bytes)
        What the caller sent along.
    peer : callable
        Answers the caller's address. Called only by who needs it: asking costs.
    cancelled : bool
        Whether the caller is known to have gone. Only for work that takes long does a front find out.
    names : callable
        Answers the names in the caller's certificate: its subject alternative names, or where it has none its
        common name. None if the caller showed no certificate.
    caller : str
        What the access policy calls the caller; empty without one.
    request_id, model : str
        What the request calls itself, and the model that scores it; empty until that is known.
    recorded : bool
        Whether the answer is on record, and must not be sent if the record cannot be kept.
    opened, arrived, begun, decoded, scored, finished : int
        When the call came, its message (of an exchange, the newest) was there, its turn came, its rows were
        decoded, scored, and its answer was made: in ns of `time.perf_counter_ns`. 0 if it has not come to
        that.
    """

    __slots__ = (
        "arrived",
        "begun",
        "caller",
        "cancelled",
        "deadline",
        "decoded",
        "finished",
        "metadata",
        "model",
        "names",
        "opened",
        "peer",
        "recorded",
        "request_id",
        "scored",
    )

    def __init__(self, deadline: float, metadata: Metadata, peer: Callable[[], str]):
        self.deadline = deadline
        self.metadata = metadata
        self.peer = peer
        self.names: Callable[[], Sequence[str]] = tuple
        self.cancelled = False
        self.caller = self.request_id = self.model = ""
        self.recorded = False
        self.opened = self.arrived = time.perf_counter_ns()
        self.begun = self.decoded = self.scored = self.finished = 0

    def expired(self) -> bool:
        """Return whether the caller has stopped waiting."""
        return time.time() >= self.deadline


Work = Generator[None, None, bytes]
"""What takes long, in steps. The result is a serialised response, or `StatusError` is raised.

The first step is done at once and must be short: it may refuse the call. The others are done on a thread
apart (`server.turns`), with those of other work in between. It is closed if nobody waits for its result.
"""

Handler = Callable[[bytes, Call], bytes | Work]
"""Takes a serialised request; answers a serialised response, or the work for one, or raises `StatusError`."""

Send = Callable[[bytes], None]
"""Sends a message to a subscriber, from any thread. If it reads slowly, only the newest message is kept."""


@dataclass(frozen=True, slots=True)
class Unary:
    """One request, one response."""

    handle: Handler


@dataclass(frozen=True, slots=True)
class Exchange:
    """Many requests, each with its response, in order. The next is read when the last is answered.

    It does not last for ever: a front ends it with UNAVAILABLE between two requests, for its client to begin
    another, perhaps with another server.
    """

    handle: Handler


@dataclass(frozen=True, slots=True)
class Subscription:
    """One request, then messages whenever there is news. `subscribe` answers what ends the subscription."""

    subscribe: Callable[[bytes, Call, Send], Callable[[], None]]


Method = Unary | Exchange | Subscription
