"""`grpc.health.v1`: what this server says of itself to probes, balancers and clients."""

import threading
from collections.abc import Callable, Iterable, Mapping

from google.protobuf.message import DecodeError
from grpc_health.v1 import health_pb2 as pb

from server.call import Call, Method, Send, Subscription, Unary
from server.status import Code, StatusError

LIVENESS = "liveness"
"""The process answers, draining too."""
STARTUP = "startup"
"""The models have been loaded once."""
READINESS = "readiness"
"""May take traffic. The empty name and each RPC service's say the same, but go on SERVING while leaving."""


class Health:
    """The state of each health service, by name.

    Parameters
    ----------
    names
        Names known from the start, all NOT_SERVING.
    tell
        Called with the state of every name whenever something is said.
    """

    name = "grpc.health.v1.Health"

    def __init__(self, names: Iterable[str], tell: Callable[[Mapping[str, bool]], None] | None = None):
        self._tell = tell
        self._lock = threading.Lock()
        self._serving = dict.fromkeys(names, False)
        self._watchers: dict[Send, str] = {}

    def methods(self) -> Mapping[str, Method]:
        """Return the service's methods by name."""
        return {"Check": Unary(self.check), "List": Unary(self.list), "Watch": Subscription(self.watch)}

    def set(self, serving: bool, *names: str) -> None:
        """Say of each name whether it serves. A new name becomes known."""
        with self._lock:
            self._serving.update(dict.fromkeys(names, serving))
            if self._tell:
                self._tell(self._serving)
            for send, name in self._watchers.items():
                if name in names:
                    send(self._response(name))

    def follow(self, states: Mapping[str, bool]) -> None:
        """Say of each name what another says of it. Who watches hears of what is new."""
        for serving in (True, False):
            names = [
                name
                for name, state in states.items()
                if state is serving and self._serving.get(name) is not serving
            ]
            self.set(serving, *names)

    def serving(self, name: str) -> bool:
        """Return whether a name serves."""
        return self._serving.get(name, False)

    def check(self, data: bytes, _call: Call) -> bytes:
        """Answer a name's state now. NOT_FOUND for an unknown name."""
        name = _requested(data)
        with self._lock:
            if name not in self._serving:
                known = ", ".join(map(repr, self._serving))
                raise StatusError(Code.NOT_FOUND, f"no health service {name[:64]!r}, but: {known}")
            return self._response(name)

    def list(self, _data: bytes, _call: Call) -> bytes:
        """Answer every name's state now."""
        with self._lock:
            statuses = {name: pb.HealthCheckResponse(status=self._status(name)) for name in self._serving}
        data: bytes = pb.HealthListResponse(statuses=statuses).SerializeToString()
        return data

    def watch(self, data: bytes, _call: Call, send: Send) -> Callable[[], None]:
        """Send a name's state now and whenever it is said anew. SERVICE_UNKNOWN for an unknown name."""
        name = _requested(data)
        with self._lock:
            self._watchers[send] = name
            send(self._response(name))

        def unwatch() -> None:
            with self._lock:
                self._watchers.pop(send, None)

        return unwatch

    def _response(self, name: str) -> bytes:
        data: bytes = pb.HealthCheckResponse(status=self._status(name)).SerializeToString()
        return data

    def _status(self, name: str) -> int:
        statuses = pb.HealthCheckResponse
        if name not in self._serving:
            return int(statuses.SERVICE_UNKNOWN)
        return int(statuses.SERVING if self._serving[name] else statuses.NOT_SERVING)


def _requested(data: bytes) -> str:
    try:
        return str(pb.HealthCheckRequest.FromString(data).service)
    except DecodeError as error:
        raise StatusError(Code.INVALID_ARGUMENT, "the request is no HealthCheckRequest") from error
