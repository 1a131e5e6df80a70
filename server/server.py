"""The server's life: STARTING, SERVING, LEAVING, DRAINING, stopped."""

import gc
import logging
import os
import signal
import threading
import time
from collections.abc import Mapping, Sequence
from queue import SimpleQueue
from types import FrameType
from typing import TYPE_CHECKING, Any

from server import access, connections, port, tls, trace
from server.access import Access, Policy
from server.admission import Admission
from server.audit.log import Audit
from server.call import Method
from server.call_log import CallLog
from server.calls import Calls
from server.catalog import Catalog
from server.config import Config, SettingError
from server.followed import INTERVAL, Followed
from server.grpcio_front import GrpcioFront
from server.health import LIVENESS, READINESS, STARTUP, Health
from server.inference_service import InferenceService
from server.log import LevelFile
from server.model_service import ModelService
from server.models import Models
from server.prediction_service import PredictionService
from server.reflection import Reflection
from server.store import Store
from server.tls import Certificates
from server.workers import Line

if TYPE_CHECKING:
    from server.exporter import Exporter

_log = logging.getLogger(__name__)

_POLL = 0.05
# For how long nobody must be connected: a client whose connection has aged out is back in a moment.
_GONE = 1.0
# How often to look who is connected. It costs the processor some ms, and calls are served meanwhile.
_LOOK = 0.2
# How often what was noted is told: so old may a figure be.
_FLUSH = 1.0
# What the audit log has to close at least, though calls in hand took the whole grace.
_CLOSING = 1.0
# How long the calls that were under way when new work was refused may take to arrive.
_REFUSING = 0.2


class Server:
    """Serves the bundles of a folder until it is told to stop.

    Parameters
    ----------
    config
        The settings.
    line
        To the supervisor, if this is one worker of several.
    store
        What it counts in, if this is one worker of several: the supervisor tells of it.
    """

    def __init__(self, config: Config, line: Line | None = None, store: Store | None = None):
        self._line = line
        self._store = store or Store()
        self._config = config
        # A signal's handler may put into it whatever the main thread is at. An Event has a lock, which the
        # main thread may just be holding.
        self._told_to_stop: SimpleQueue[int] = SimpleQueue()
        self._serving = self._store.cells("forest_serving", {})
        self._audit = Audit.of(config, self._store)
        self._models = Models(
            config.models,
            config.bundle_digest,
            followed=config.watch > 0,
            store=self._store,
            audit=self._audit,
        )
        self._admission = Admission(config.max_batch_rows, config.max_rows_in_flight, self._store)
        self._certificates = _certificates(config)
        self._policy = _policy(config)
        file = config.log_level_file
        self._level_file = LevelFile(file, config.log_level) if file else None
        self._call_log = CallLog()
        self._tracing = (
            trace.begin(config.traces_endpoint, config.traces_ratio) if config.traces_endpoint else None
        )
        self._calls = Calls(self._store, self._call_log, self._tracing)
        self._readiness = ["", READINESS, PredictionService.name, ModelService.name, InferenceService.name]
        names = [LIVENESS, STARTUP, *self._readiness]
        self._health = Health(names, line.tell if line else None)
        # The health port is the whole server's: what any worker serves is served.
        self._whole_health = Health(names) if line else self._health
        self._health_front = GrpcioFront(
            "health",
            _paths(self._health.name, self._whole_health.methods()),
            f"{config.host}:{config.health_port}",
            _limits(config),
            shared=line is not None,
        )
        self._front = GrpcioFront(
            "front",
            self._methods() | _paths(self._health.name, self._health.methods()),
            f"{config.host}:{config.port}",
            _limits(config),
            certificates=self._certificates,
            calls=self._calls,
            commit=self._audit.commit if self._audit else None,
            shared=line is not None,
            # A connection that has aged out cancels what is still on it after the grace.
            exchange_age=0.8 * config.max_connection_age_grace,
        )

        self._exporter = None if line else _exporter(config, self._store)

    def run(self) -> None:
        """Live from start to stop. Returns when everything in hand has been finished."""
        if self._line:
            self._whole_health.follow(self._line.states)
            self._line.listen(self._whole_health.follow, lambda: self._told_to_stop.put(signal.SIGTERM))
        else:
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, self._on_signal)
        self._start()
        if self._told_to_stop.empty():
            self._serve()
        self._leave()
        self._drain()
        self._stop()

    def _methods(self) -> dict[str, Method]:
        """Return what can be called on the API's port beside health, by path."""
        own = [PredictionService.name, ModelService.name, InferenceService.name]
        reflection = Reflection([*own, self._health.name, *Reflection.names[1:]])
        told = {
            path: method
            for name in reflection.names
            for path, method in _paths(name, reflection.methods()).items()
        }
        if self._config.reflection == "off":
            told = {}
        if not self._policy:
            return self._services(self._models) | told
        guarded = Access(self._policy, self._models, self._services)
        return guarded.methods() | (guarded.known(told) if self._config.reflection == "authorised" else told)

    def _services(self, models: Catalog) -> dict[str, Method]:
        """Return the methods of the services, by path, for who may see some models.

        What they bound together, as rows in flight, they bound for all callers.
        """
        services = (
            PredictionService(models, self._admission),
            ModelService(models, self._config.max_batch_rows),
            InferenceService(models, self._health, self._admission),
        )
        return {
            path: method for each in services for path, method in _paths(each.name, each.methods()).items()
        }

    def _start(self) -> None:
        followed = [each for each in (self._certificates, self._policy, self._level_file) if each]
        if followed:
            threading.Thread(target=_follow, args=[followed], name="files", daemon=True).start()
        _log.info("STARTING: health on port %d", self._health_front.port)
        if self._exporter:
            self._exporter.start()
        self._health_front.start()
        self._health.set(True, LIVENESS)
        self._models.load()
        self._check_redacted()
        if self._audit:
            self._audit.start()
        threading.Thread(target=self._flush, name="counts", daemon=True).start()
        self._health.set(True, STARTUP)
        # What is here now stays. To look through it all for garbage again would hold up calls for 10 ms.
        gc.freeze()
        self._front.start()

    def _serve(self) -> None:
        self._tell()
        look = time.monotonic() + self._config.watch
        # Waiting without an end would sleep over a signal that comes just before it, or to another thread.
        while self._told_to_stop.empty():
            time.sleep(_POLL)
            if self._config.watch and time.monotonic() >= look:
                if self._models.follow():
                    self._check_redacted()
                    self._tell()
                look = time.monotonic() + self._config.watch

    def _check_redacted(self) -> None:
        """Refuse to begin, or where models come and go say so, if what is to be redacted is nowhere."""
        found = self._models.found
        if not self._audit or not (unknown := self._audit.unknown(found)):
            return
        message = f"audit_redact: no model here has a feature {', '.join(unknown)}"
        if not self._config.watch and found and all(model.manifest for model in found):
            raise SettingError(message, "audit_redact")
        _log.error("%s: is it a slip of the pen? Values under another name are on record", message)

    def _tell(self) -> None:
        """Let health and the log say what is served."""
        served = self._models.names()
        for name, good in served.items():
            self._health.set(good, f"models/{name}")
        good = bool(served) and all(served.values())
        self._serving[0] = good
        self._health.set(good, *self._readiness)
        if good:
            _log.info("SERVING on port %d", self._front.port)
        else:
            _log.error(
                "NOT_SERVING on port %d: every bundle must pass its checks, and there must be one",
                self._front.port,
            )

    def _flush(self) -> None:
        """Put what was noted where it is read, for as long as the process lives."""
        while True:
            time.sleep(_FLUSH)
            self._calls.flush()
            self._models.flush()
            if self._certificates:
                # New ones are taken while it runs.
                end = self._store.cells("forest_certificate_expiry_timestamp_seconds", {})
                end[0] = self._certificates.value.end

    def _leave(self) -> None:
        """Let clients find the others before they are told that this server goes.

        Who looks servers up in DNS does so when a connection ends, not when one of them is NOT_SERVING. Told
        too soon, a client may know nobody else to ask: its calls would fail until a connection has aged.
        """
        if not self._config.leave_timeout:
            return
        _log.info("LEAVING: for %g s at most; a second signal stops at once", self._config.leave_timeout)
        self._serving[0] = 0
        self._health.set(False, READINESS)
        self._await_the_last(self._config.leave_timeout)

    def _drain(self) -> None:
        """Go on serving whoever is still connected, until the connections have aged out; but say so."""
        _log.info("DRAINING: for %g s at most; a second signal stops at once", self._config.drain_timeout)
        self._serving[0] = 0
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
        end = time.monotonic() + self._config.stop_grace
        ended = self._front.stop(self._config.stop_grace)
        if self._audit:
            self._audit.close(max(end - time.monotonic(), _CLOSING))
        if not ended:
            self._call_log.close()
            logging.shutdown()
            # The interpreter's own end would wait for what hangs.
            os._exit(1)
        self._health.set(False, LIVENESS, STARTUP)
        self._health_front.stop(grace=1.0)
        self._call_log.close()
        if self._tracing:
            self._tracing.stop()
        _log.info("stopped")

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        for each in (signal.SIGTERM, signal.SIGINT):
            signal.signal(each, _end)
        self._told_to_stop.put(number)


def _end(number: int, _frame: FrameType | None) -> None:
    # The system's own handling would do, were it not for containers: the kernel spares their process 1.
    os._exit(128 + number)


def _follow(followed: Sequence[Followed[Any]]) -> None:
    """Look at files for as long as the process lives."""
    while True:
        time.sleep(INTERVAL)
        for each in followed:
            each.look()


def _certificates(config: Config) -> Followed[Certificates] | None:
    certificate, key, client_ca = config.tls_certificate, config.tls_key, config.tls_client_ca
    if not certificate or not key:
        return None
    files = [file for file in (certificate, key, client_ca) if file]
    return Followed("certificate", files, lambda: tls.read(certificate, key, client_ca))


def _exporter(config: Config, store: Store) -> "Exporter | None":
    if not config.metrics_port:
        return None
    # Where there are workers, a process apart brings in all that answering by HTTP needs, and these do not.
    from server.exporter import Exporter  # noqa: PLC0415

    store.cells("forest_workers", {})[0] = 1
    store.cells("forest_worker_ends_total", {})
    listeners = port.listen(config.host, config.metrics_port)
    return Exporter(listeners, [store], config.drift_window, os.getpid())


def _policy(config: Config) -> Followed[Policy] | None:
    file = config.access_policy
    if not file:
        return None
    tokens = config.plaintext_tokens or config.tls_certificate is not None
    certificates = config.tls_client_ca is not None
    return Followed(
        "access policy", [file], lambda: access.read(file, tokens=tokens, certificates=certificates)
    )


def _paths(service: str, methods: Mapping[str, Method]) -> dict[str, Method]:
    return {f"/{service}/{name}": method for name, method in methods.items()}


def _limits(config: Config) -> list[tuple[str, int]]:
    limits = [
        ("grpc.max_connection_age_ms", round(config.max_connection_age * 1000)),
        ("grpc.max_connection_age_grace_ms", round(config.max_connection_age_grace * 1000)),
        ("grpc.keepalive_timeout_ms", round(config.keepalive_timeout * 1000)),
        # By itself the one above ends no connection (grpcio 1.85): this one does.
        ("grpc.http2.ping_timeout_ms", round(config.keepalive_timeout * 1000)),
        ("grpc.http2.min_ping_interval_without_data_ms", round(config.min_ping_interval * 1000)),
        # Else the interval would be two hours while there is no call, whatever is said above.
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.max_ping_strikes", config.max_ping_strikes),
        ("grpc.max_concurrent_streams", config.max_concurrent_streams),
        ("grpc.max_receive_message_length", config.max_message_bytes),
    ]
    if config.max_connection_idle:
        limits.append(("grpc.max_connection_idle_ms", round(config.max_connection_idle * 1000)))
    if config.keepalive_time:
        limits.append(("grpc.keepalive_time_ms", round(config.keepalive_time * 1000)))
        # Else the third question without a call in between would not be asked.
        limits.append(("grpc.http2.max_pings_without_data", 0))
    return limits
