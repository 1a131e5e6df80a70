"""The server's life: STARTING, SERVING, LEAVING, DRAINING, stopped."""

import logging
import os
import signal
import time
from collections.abc import Mapping
from queue import SimpleQueue
from types import FrameType

from server import connections
from server.admission import Admission
from server.call import Method
from server.config import Config
from server.grpcio_front import GrpcioFront
from server.health import LIVENESS, READINESS, STARTUP, Health
from server.inference_service import InferenceService
from server.model_service import ModelService
from server.models import Models
from server.prediction_service import PredictionService
from server.reflection import Reflection

_log = logging.getLogger(__name__)

_POLL = 0.05
# For how long nobody must be connected: a client whose connection has aged out is back in a moment.
_GONE = 1.0
# How often to look who is connected. It costs the processor some ms, and calls are served meanwhile.
_LOOK = 0.2
# How long the calls that were under way when new work was refused may take to arrive.
_REFUSING = 0.2


class Server:
    """Serves the bundles of a folder until it is told to stop.

    Parameters
    ----------
    config
        The settings.
    """

    def __init__(self, config: Config):
        self._config = config
        # A signal's handler may put into it whatever the main thread is at. An Event has a lock, which the
        # main thread may just be holding.
        self._told_to_stop: SimpleQueue[int] = SimpleQueue()
        self._models = Models(config.models, config.bundle_digest, followed=config.watch > 0)
        admission = Admission(config.max_batch_rows, config.max_rows_in_flight)
        prediction = PredictionService(self._models, admission)
        model = ModelService(self._models, config.max_batch_rows)
        self._readiness = ["", READINESS, prediction.name, model.name, InferenceService.name]
        self._health = Health([LIVENESS, STARTUP, *self._readiness])
        inference = InferenceService(self._models, self._health, admission)
        reflection = Reflection(
            [prediction.name, model.name, inference.name, self._health.name, *Reflection.names[1:]]
        )
        health_methods = _paths(self._health.name, self._health.methods())
        self._health_front = GrpcioFront(
            "health", health_methods, f"{config.host}:{config.health_port}", _limits(config)
        )
        self._front = GrpcioFront(
            "front",
            {
                **_paths(prediction.name, prediction.methods()),
                **_paths(model.name, model.methods()),
                **_paths(inference.name, inference.methods()),
                **health_methods,
                **{
                    path: method
                    for name in reflection.names
                    for path, method in _paths(name, reflection.methods()).items()
                },
            },
            f"{config.host}:{config.port}",
            _limits(config),
            # A connection that has aged out cancels what is still on it after the grace.
            exchange_age=0.8 * config.max_connection_age_grace,
        )

    def run(self) -> None:
        """Live from start to stop. Returns when everything in hand has been finished."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)
        self._start()
        if self._told_to_stop.empty():
            self._serve()
        self._leave()
        self._drain()
        self._stop()

    def _start(self) -> None:
        _log.info("STARTING: health on port %d", self._health_front.port)
        self._health_front.start()
        self._health.set(True, LIVENESS)
        self._models.load()
        self._health.set(True, STARTUP)
        self._front.start()

    def _serve(self) -> None:
        self._tell()
        look = time.monotonic() + self._config.watch
        # Waiting without an end would sleep over a signal that comes just before it, or to another thread.
        while self._told_to_stop.empty():
            time.sleep(_POLL)
            if self._config.watch and time.monotonic() >= look:
                if self._models.follow():
                    self._tell()
                look = time.monotonic() + self._config.watch

    def _tell(self) -> None:
        """Let health and the log say what is served."""
        served = self._models.names()
        for name, good in served.items():
            self._health.set(good, f"models/{name}")
        good = bool(served) and all(served.values())
        self._health.set(good, *self._readiness)
        if good:
            _log.info("SERVING on port %d", self._front.port)
        else:
            _log.error(
                "NOT_SERVING on port %d: every bundle must pass its checks, and there must be one",
                self._front.port,
            )

    def _leave(self) -> None:
        """Let clients find the others before they are told that this server goes.

        Who looks servers up in DNS does so when a connection ends, not when one of them is NOT_SERVING. Told
        too soon, a client may know nobody else to ask: its calls would fail until a connection has aged.
        """
        if not self._config.leave_timeout:
            return
        _log.info("LEAVING: for %g s at most; a second signal stops at once", self._config.leave_timeout)
        self._health.set(False, READINESS)
        self._await_the_last(self._config.leave_timeout)

    def _drain(self) -> None:
        """Go on serving whoever is still connected, until the connections have aged out; but say so."""
        _log.info("DRAINING: for %g s at most; a second signal stops at once", self._config.drain_timeout)
        self._health.set(False, *self._readiness, *(f"models/{name}" for name in self._models.names()))
        self._await_the_last(self._config.drain_timeout)
        self._models.close()
        time.sleep(_REFUSING)

    def _await_the_last(self, seconds: float) -> None:
        """Return when everybody has gone, or after some seconds."""
        deadline = time.monotonic() + seconds
        seen = time.monotonic()
        while time.monotonic() < min(deadline, seen + _GONE):
            if connections.count(self._front.port) != 0:
                seen = time.monotonic()
            time.sleep(_LOOK)

    def _stop(self) -> None:
        self._front.stop(self._config.stop_grace)
        self._health.set(False, LIVENESS, STARTUP)
        self._health_front.stop(grace=1.0)
        _log.info("stopped")

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        for each in (signal.SIGTERM, signal.SIGINT):
            signal.signal(each, _end)
        self._told_to_stop.put(number)


def _end(number: int, _frame: FrameType | None) -> None:
    # The system's own handling would do, were it not for containers: the kernel spares their process 1.
    os._exit(128 + number)


def _paths(service: str, methods: Mapping[str, Method]) -> dict[str, Method]:
    return {f"/{service}/{name}": method for name, method in methods.items()}


def _limits(config: Config) -> list[tuple[str, int]]:
    return [
        ("grpc.max_connection_age_ms", round(config.max_connection_age * 1000)),
        ("grpc.max_connection_age_grace_ms", round(config.max_connection_age_grace * 1000)),
        ("grpc.max_receive_message_length", config.max_message_bytes),
    ]
