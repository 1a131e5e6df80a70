"""Metrics for Prometheus, of what the server's processes count in stores. docs/metrics.md lists them."""

import json
import os
import platform
import re
import struct
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from itertools import accumulate

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from model_bundle.manifest import SCORE
from server import VERSION, usage
from server.calls import BOUNDS
from server.drift import Drift, Feature
from server.store import Store

_CALL = ("grpc_type", "grpc_service", "grpc_method")
_MODEL = ("model", "version")
_FEATURE = (*_MODEL, "feature")
_LEVELS = {"untold": -1, "none": 0, "moderate": 1, "great": 2}
_METRIC_NAME = re.compile("[a-z][a-z0-9_]*")
# Metrics of a manifest whose names say too little by themselves; so scikit-learn calls it.
_METRIC_NAMES = {"f1": "f1_score"}
# What a histogram's name ends in where it is told, or may end in.
_OF_HISTOGRAMS = ("", "_bucket", "_count", "_sum", "_created")

# What stores have of a name: by labels, the cells of each store that has them.
_Found = dict[tuple[tuple[str, str], ...], list[Sequence[int]]]


@dataclass(frozen=True, slots=True)
class _Told:
    """How cells of a name are told: what they are, by which labels, and how those of all stores add up."""

    help: str
    labels: tuple[str, ...] = ()
    together: Callable[[Iterable[int]], int | None] = sum


_COUNTERS = {
    "grpc_server_started_total": _Told("Calls that have come.", _CALL),
    "grpc_server_handled_total": _Told("Calls that have ended, by their status.", (*_CALL, "grpc_code")),
    "grpc_server_msg_received_total": _Told("Messages that have come.", _CALL),
    "grpc_server_msg_sent_total": _Told("Messages that were answered.", _CALL),
    "forest_rows_total": _Told("Rows scored.", _MODEL),
    "predictions_total": _Told("Rows classified, by label and risk level.", (*_MODEL, "label", "risk_level")),
    "forest_audit_records_total": _Told("Records of decisions that the audit log has taken."),
    "forest_audit_bytes_total": _Told("Bytes of the records that the audit log has taken."),
    "forest_audit_dropped_total": _Told("Records that the audit log has dropped: it is best-effort."),
    "forest_audit_failures_total": _Told("Writes of the audit log that have failed."),
    "forest_worker_ends_total": _Told("Ends of workers that nobody had asked for."),
}
_GAUGES = {
    "forest_rows_in_flight": _Told("Rows of requests with many that wait or are scored."),
    "forest_rows_in_flight_limit": _Told("Most rows in flight, of each worker.", together=max),
    "forest_serving": _Told("Whether the server takes new clients, as readiness says: 1 or 0.", together=max),
    "forest_workers": _Told("Processes that serve."),
    "forest_certificate_expiry_timestamp_seconds": _Told(
        "When the server's certificate ends, in seconds since the epoch.",
        # 0 is that of a worker without one.
        together=lambda values: min(filter(None, values), default=None),
    ),
}
_TIMES = {
    "grpc_server_handling_seconds": _Told("How long calls took, from their arrival to their end.", _CALL),
    "forest_call_phase_seconds": _Told(
        "Where the time of calls and messages that scored rows went: wait, decode, run or encode.",
        ("grpc_service", "grpc_method", "phase"),
    ),
}
_SCORES = {"model_score": _Told("What models made of rows: probabilities, or values.", _MODEL)}


class Metrics(Collector):
    """What Prometheus is told when it asks.

    Parameters
    ----------
    stores
        Of all processes that count.
    drift
        Judges what was scored.
    process
        The server's: the supervisor where there are workers.
    """

    def __init__(self, stores: Sequence[Store], drift: Drift, process: int):
        self._stores = stores
        self._drift = drift
        self._process = process
        self._lock = threading.Lock()
        self._processor = 0.0
        self._build = {"version": VERSION, "python": platform.python_version()} | {
            name: version(name) for name in ("grpcio", "onnxruntime")
        }

    def look(self) -> None:
        """Take what has been counted since into the windows of drift, though nobody has asked."""
        self._drift.look([store.read() for store in self._stores])

    def collect(self) -> Iterator[Metric]:
        """Yield every metric, as of now."""
        snapshots = [store.read() for store in self._stores]
        found: dict[str, _Found] = defaultdict(dict)
        for snapshot in snapshots:
            for (name, labels), cells in snapshot.items():
                found[name].setdefault(labels, []).append(cells)
        for name, told in _COUNTERS.items():
            yield _added(CounterMetricFamily(name, told.help, labels=told.labels), told, found[name])
        for name, told in _GAUGES.items():
            yield _added(GaugeMetricFamily(name, told.help, labels=told.labels), told, found[name])
        for name, told in _TIMES.items():
            yield _histogram(name, told, found[name], lambda ns: ns * 1e-9)
        for name, told in _SCORES.items():
            yield _histogram(name, told, found[name], _as_float)
        yield from _models(found["model"])
        yield from _drifts(self._drift.look(snapshots))
        yield from self._processes(found["process"])
        build = GaugeMetricFamily("forest_build_info", "What runs here; always 1.", labels=tuple(self._build))
        build.add_metric(tuple(self._build.values()), 1)
        yield build

    def _processes(self, found: _Found) -> Iterator[Metric]:
        """Yield what the processes use. The names are those of every program that Prometheus asks."""
        processes = {cells[0] for each in found.values() for cells in each} | {os.getpid()}
        used = usage.of(self._process, processes - {0, self._process})
        if not used:
            return
        with self._lock:
            # A worker that has just ended is missing for a moment.
            self._processor = max(self._processor, used.processor)
            yield CounterMetricFamily(
                "process_cpu_seconds_total", "Processor time of all processes.", self._processor
            )
        for name, text, value in (
            ("process_resident_memory_bytes", "Memory of all processes.", used.resident),
            ("process_start_time_seconds", "When the server began, in seconds since the epoch.", used.start),
            ("process_open_fds", "Open files of all processes.", used.open_files),
            ("process_max_fds", "How many files all processes may open.", used.most_files),
        ):
            yield GaugeMetricFamily(name, text, value)


def _added(
    family: CounterMetricFamily | GaugeMetricFamily, told: _Told, found: _Found
) -> CounterMetricFamily | GaugeMetricFamily:
    """Return a family with what the stores have of it, put together."""
    for labels, each in found.items():
        value = told.together(cells[0] for cells in each)
        if value is not None:
            of = dict(labels)
            family.add_metric([of[label] for label in told.labels], value)
    return family


def _histogram(name: str, told: _Told, found: _Found, value: Callable[[int], float]) -> Metric:
    """Return a histogram with what the stores have of it, added up.

    Cells are a number for each bucket, one for what is above the last bound, and the sum. ``value`` returns
    what a sum's cell holds.
    """
    family = HistogramMetricFamily(name, told.help, labels=told.labels)
    # Of one model and version there are no other bounds, unless it came back with them: the last count.
    added = {}
    for labels, each in found.items():
        of = dict(labels)
        bounds = json.loads(of["bounds"]) if "bounds" in of else BOUNDS
        added[tuple(of[label] for label in told.labels)] = bounds, each
    for values, (bounds, each) in added.items():
        counts = map(sum, zip(*(cells[:-1] for cells in each), strict=True))
        total = sum(value(cells[-1]) for cells in each)
        buckets = zip([*map(floatToGoString, bounds), "+Inf"], accumulate(counts), strict=True)
        family.add_metric(values, list(buckets), total)
    return family


def _as_float(cell: int) -> float:
    """Return the number of 64 bits that a cell holds in place of a whole one."""
    number: float = struct.unpack("d", struct.pack("q", cell))[0]
    return number


def _models(found: _Found) -> Iterator[Metric]:
    """Yield what the manifests of the models that are here say."""
    info = GaugeMetricFamily(
        "model_info", "A model that is here; always 1.", labels=(*_MODEL, "digest", "task")
    )
    ready = GaugeMetricFamily("model_ready", "Whether a model is served: 0 if it was refused.", labels=_MODEL)
    created = GaugeMetricFamily(
        "model_created_timestamp_seconds",
        "When a model's bundle was made, in seconds since the epoch.",
        labels=_MODEL,
    )
    age = GaugeMetricFamily("model_age_seconds", "How long ago a model's bundle was made.", labels=_MODEL)
    families = {family.name: family for family in (info, ready, created, age)}
    taken = families.keys() | {name + part for name in _SCORES for part in _OF_HISTOGRAMS}
    # Workers that follow a folder may know another one of the same version for a moment: one of them is told.
    here = {
        (of["model"], of["version"]): (of, [cells[1] for cells in each])
        for labels, each in found.items()
        if any(cells[0] for cells in each)
        for of in (dict(labels),)
    }
    now = time.time()
    for model, (of, served) in here.items():
        info.add_metric([*model, of["digest"], of["task"]], 1)
        ready.add_metric(model, int(any(served)))
        # Of some nothing tells.
        if of["created"]:
            created.add_metric(model, float(of["created"]))
            age.add_metric(model, max(now - float(of["created"]), 0.0))
        metrics = json.loads(of["metrics"])
        for metric, value in metrics.items():
            known = _METRIC_NAMES.get(metric, metric)
            name = f"model_{known}"
            # A recipe may name its metrics as it likes. Of two that come to one name, it is the other's own.
            twice = known != metric and known in metrics
            if _METRIC_NAME.fullmatch(metric) and name not in taken and not twice:
                text = f"The metric {metric} of the manifest: of the test part, when the model was made."
                families.setdefault(name, GaugeMetricFamily(name, text, labels=_MODEL))
                families[name].add_metric(model, value)
    yield from families.values()


def _drifts(features: Iterable[Feature]) -> Iterator[Metric]:
    """Yield what is said of the rows in the windows."""
    score = GaugeMetricFamily(
        "data_drift_score",
        "Population stability index of a feature, or of the score, against training.",
        labels=_FEATURE,
    )
    distance = GaugeMetricFamily(
        "data_drift_distance",
        "Jensen-Shannon distance of a category or flag from training, 0 to 1.",
        labels=_FEATURE,
    )
    level = GaugeMetricFamily(
        "data_drift_level",
        "Drift beyond chance: 0 none, 1 moderate, 2 great, -1 too few rows to tell.",
        labels=_FEATURE,
    )
    rows = GaugeMetricFamily("data_drift_rows", "Rows in the window of drift.", labels=_MODEL)
    for feature in features:
        of, judgement = (feature.model, feature.version, feature.name), feature.judgement
        level.add_metric(of, _LEVELS[judgement.level])
        if judgement.rows:
            score.add_metric(of, judgement.index)
            if judgement.distance is not None:
                distance.add_metric(of, judgement.distance)
        if feature.name == SCORE:
            rows.add_metric(of[:2], judgement.rows)
    yield from (score, distance, level, rows)
