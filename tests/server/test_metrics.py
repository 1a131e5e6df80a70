"""Metrics of stores: what adds up, what does not, and what Prometheus makes of it."""

import json
import os
import shutil
import subprocess
import time

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from server.calls import BOUNDS
from server.drift import Drift
from server.metrics import Metrics
from server.store import Store

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]
CALL = {"grpc_type": "unary", "grpc_service": "forest.v1.PredictionService", "grpc_method": "Predict"}
MODEL = {"model": "fraud", "version": "1.0.0"}


def text(*stores: Store) -> str:
    registry = CollectorRegistry()
    registry.register(Metrics(stores, Drift(3600), os.getpid()))
    return generate_latest(registry).decode()


def samples(*stores: Store) -> Samples:
    found: Samples = {}
    for family in text_string_to_metric_families(text(*stores)):
        for sample in family.samples:
            key = sample.name, tuple(sorted(sample.labels.items()))
            assert key not in found, "told twice"
            found[key] = sample.value
    return found


def of(found: Samples, name: str, **labels: str) -> float:
    return found[name, tuple(sorted(labels.items()))]


def two() -> tuple[Store, Store]:
    return Store(), Store()


def test_counts_of_all_processes_add_up() -> None:
    stores = two()
    for store, count in zip(stores, (3, 4), strict=True):
        store.cells("grpc_server_handled_total", CALL | {"grpc_code": "OK"})[0] = count
        store.cells("predictions_total", MODEL | {"label": "fraud", "risk_level": "HIGH"})[0] = count
    stores[1].cells("grpc_server_handled_total", CALL | {"grpc_code": "NotFound"})[0] = 1
    found = samples(*stores)
    assert of(found, "grpc_server_handled_total", **CALL, grpc_code="OK") == 7
    assert of(found, "grpc_server_handled_total", **CALL, grpc_code="NotFound") == 1
    assert of(found, "predictions_total", **MODEL, label="fraud", risk_level="HIGH") == 7


def test_histograms_are_cumulative_and_in_seconds() -> None:
    stores = two()
    for store in stores:
        cells = store.cells("grpc_server_handling_seconds", CALL, len(BOUNDS) + 2)
        # Up to 100 us, up to 1 s, and above.
        cells[0], cells[12], cells[13], cells[14] = 5, 2, 1, 4_000_000_000
    found = samples(*stores)
    buckets = [
        of(found, "grpc_server_handling_seconds_bucket", **CALL, le=str(bound))
        for bound in (0.0001, 0.5, 1.0)
    ]
    assert buckets == [10, 10, 14]
    assert of(found, "grpc_server_handling_seconds_bucket", **CALL, le="+Inf") == 16
    assert of(found, "grpc_server_handling_seconds_count", **CALL) == 16
    assert of(found, "grpc_server_handling_seconds_sum", **CALL) == pytest.approx(8)


def test_scores_have_bounds_of_their_own_which_are_no_label() -> None:
    store = Store()
    cells = store.cells("model_score", MODEL | {"bounds": "[0.25, 0.5]"}, 4)
    cells[0], cells[1], cells[2] = 1, 2, 3
    # The one cell that holds no whole number.
    cells[3:].cast("B").cast("d")[0] = 2.5
    found = samples(store)
    assert [of(found, "model_score_bucket", **MODEL, le=le) for le in ("0.25", "0.5", "+Inf")] == [1, 3, 6]
    assert of(found, "model_score_sum", **MODEL) == 2.5


def test_gauges_are_put_together_by_what_they_mean() -> None:
    stores = two()
    for store, value in zip(stores, (1, 3), strict=True):
        for name in ("forest_rows_in_flight", "forest_rows_in_flight_limit"):
            store.cells(name, {})[0] = value
    for store, serving, end in zip(stores, (0, 1), (2_000, 1_000), strict=True):
        store.cells("forest_serving", {})[0] = serving
        store.cells("forest_certificate_expiry_timestamp_seconds", {})[0] = end
    found = samples(*stores)
    assert of(found, "forest_rows_in_flight") == 4
    assert of(found, "forest_rows_in_flight_limit") == 3
    assert of(found, "forest_serving") == 1
    assert of(found, "forest_certificate_expiry_timestamp_seconds") == 1_000
    # No certificate is none that has ended in 1970.
    for store in stores:
        store.cells("forest_certificate_expiry_timestamp_seconds", {})[0] = 0
    assert "forest_certificate_expiry_timestamp_seconds" not in {name for name, _ in samples(*stores)}


def model(store: Store, present: int = 1, ready: int = 1, digest: str = "sha256:0", **metrics: float) -> None:
    labels = MODEL | {"digest": digest, "task": "binary_classification", "created": "1000"}
    cells = store.cells("model", labels | {"metrics": json.dumps(metrics)}, 2)
    cells[0], cells[1] = present, ready


def test_a_model_is_told_once_with_its_metrics_and_its_age() -> None:
    stores = two()
    # `score` is a histogram's name already, and the last is none that Prometheus takes.
    model(stores[0], f1_score=0.875, score=1, info=1, **{"F1 score": 1})
    model(stores[1], ready=0, f1_score=0.875, score=1, info=1, **{"F1 score": 1})
    model(stores[1], present=0, digest="sha256:1")
    found = samples(*stores)
    assert of(found, "model_info", **MODEL, digest="sha256:0", task="binary_classification") == 1
    # One of the workers serves it.
    assert of(found, "model_ready", **MODEL) == 1
    assert of(found, "model_f1_score", **MODEL) == 0.875
    assert of(found, "model_created_timestamp_seconds", **MODEL) == 1_000
    assert of(found, "model_age_seconds", **MODEL) == pytest.approx(time.time() - 1_000, abs=60)
    assert len([name for name, _ in found if name.startswith("model_")]) == 5


def test_whatever_a_manifest_calls_its_metrics_no_series_is_told_twice() -> None:
    store = Store()
    # Those of a histogram, and two that come to the same.
    of_histogram = {"score_sum": 1, "score_count": 1, "score_bucket": 1, "score_created": 1}
    model(store, f1=0.5, f1_score=0.25, age_seconds=1, **of_histogram)
    store.cells("model_score", MODEL | {"bounds": "[0.5]"}, 3)[0] = 3
    found = samples(store)
    # What has the very name is it.
    assert of(found, "model_f1_score", **MODEL) == 0.25
    assert of(found, "model_score_count", **MODEL) == 3
    assert not [labels for name, labels in found if name == "model_score_bucket" and len(labels) != 3]
    model(other := Store(), f1=0.5)
    assert of(samples(other), "model_f1_score", **MODEL) == 0.5


def test_no_age_is_told_of_a_model_of_which_nothing_tells_it() -> None:
    store = Store()
    labels = MODEL | {"digest": "sha256:0", "task": "regression", "created": "", "metrics": "{}"}
    store.cells("model", labels, 2)[0] = 1
    told = {name for name, _ in samples(store)}
    assert {"model_info", "model_ready"} <= told
    assert not {"model_age_seconds", "model_created_timestamp_seconds"} & told


def test_drift_is_told_with_what_chance_says_of_it() -> None:
    store = Store()
    model(store)
    registry = CollectorRegistry()
    registry.register(Metrics([store], Drift(3600), os.getpid()))
    generate_latest(registry)
    names = ("amount", "0"), ("country", "1"), ("score", "0")
    for name, discrete in names:
        reference = store.cells("data_reference", MODEL | {"feature": name, "discrete": discrete}, 5)
        for place, count in enumerate((0, 6_000, 4_000, 0, 0)):
            reference[place] = count
        store.cells("data_rows", MODEL | {"feature": name}, 5)[1 if name != "score" else 2] = 500
    found = samples_of(generate_latest(registry).decode())
    assert of(found, "data_drift_rows", **MODEL) == 500
    for name, _ in names:
        assert of(found, "data_drift_score", **MODEL, feature=name) > 0.25
        assert of(found, "data_drift_level", **MODEL, feature=name) == 2
    distances = [dict(labels)["feature"] for name, labels in found if name == "data_drift_distance"]
    assert distances == ["country"]


def samples_of(exposed: str) -> Samples:
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(exposed)
        for sample in family.samples
    }


def test_without_rows_no_drift_is_told_but_that_it_is_untold() -> None:
    store = Store()
    model(store)
    store.cells("data_reference", MODEL | {"feature": "score", "discrete": "0"}, 3)[1] = 10
    store.cells("data_rows", MODEL | {"feature": "score"}, 3)
    found = samples(store)
    assert of(found, "data_drift_level", **MODEL, feature="score") == -1
    assert of(found, "data_drift_rows", **MODEL) == 0
    assert not [name for name, _ in found if name in ("data_drift_score", "data_drift_distance")]


def test_the_processes_of_the_server_are_told_together() -> None:
    with subprocess.Popen(["sleep", "60"]) as child:
        try:
            supervisor = Store()
            alone = samples(supervisor)
            supervisor.cells("process", {"number": "1"})[0] = child.pid
            # One that has ended has no number, and one that is just ending none that is known.
            supervisor.cells("process", {"number": "2"})[0] = 0
            supervisor.cells("process", {"number": "3"})[0] = 2**22 + 1
            together = samples(supervisor)
        finally:
            child.kill()
    assert of(together, "process_open_fds") > of(alone, "process_open_fds")
    assert of(together, "process_max_fds") == 2 * of(alone, "process_max_fds")
    assert of(together, "process_resident_memory_bytes") > 1e6
    assert of(together, "process_start_time_seconds") == pytest.approx(time.time(), abs=3600)
    assert of(together, "process_cpu_seconds_total") == pytest.approx(sum(os.times()[:4]), abs=1)


@pytest.mark.skipif(not shutil.which("promtool"), reason="no promtool: Debian's package prometheus has it")
def test_prometheus_finds_no_fault_with_any_name() -> None:
    store = Store()
    model(store, f1_score=0.5)
    cells = store.cells("grpc_server_handling_seconds", CALL, len(BOUNDS) + 2)
    cells[0] = 1
    checked = subprocess.run(
        ["promtool", "check", "metrics"], input=text(store), capture_output=True, text=True, check=False
    )
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, "", "")
