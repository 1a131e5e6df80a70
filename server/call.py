"""What the core knows of a call, and the kinds of method that a front carries. No transport is known here."""

import time
from collections.abc import Callable, Sequence
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
    names : callable
        Answers the names in the caller's certificate: its subject alternative names, or where it has none its
        common name. None if the caller showed no certificate.
    """

    __slots__ = ("deadline", "metadata", "names", "peer")

    def __init__(self, deadline: float, metadata: Metadata, peer: Callable[[], str]):
        self.deadline = deadline
        self.metadata = metadata
        self.peer = peer
        self.names: Callable[[], Sequence[str]] = tuple

    def expired(self) -> bool:
        """Return whether the caller has stopped waiting."""
        return time.time() >= self.deadline


Handler = Callable[[bytes, Call], bytes]
"""Takes a serialised request, answers a serialised response, or raises `StatusError`."""

Send = Callable[[bytes], None]
"""Sends a message to a subscriber, from any thread. If it reads slowly, only the newest message is kept."""


@dataclass(frozen=True, slots=True)
class Unary:
    """One request, one response."""

    handle: Handler


@dataclass(frozen=True, slots=True)
class Exchange:
    """Many requests, each with its response, in order. The next is read when the last is answered."""

    handle: Handler


@dataclass(frozen=True, slots=True)
class Subscription:
    """One request, then messages whenever there is news. `subscribe` answers what ends the subscription."""

    subscribe: Callable[[bytes, Call, Send], Callable[[], None]]


Method = Unary | Exchange | Subscription
