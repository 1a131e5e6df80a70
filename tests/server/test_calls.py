"""What is counted of calls: where their time went, and how they ended."""

import math
import struct
from pathlib import Path

import numpy as np
import pytest

from model_bundle import reference
from model_bundle.manifest import Manifest
from server.call import Call, Unary
from server.calls import BOUNDS, Calls, code_name
from server.decisions import LOOKED
from server.models import Models
from server.status import Code
from server.store import Store

_PLACE = {"grpc_service": "a.B", "grpc_method": "C"}
_LABELS = {"grpc_type": "unary"} | _PLACE


def _call(*marks: int) -> Call:
    call = Call(math.inf, (), lambda: "")
    call.opened, call.arrived, call.begun, call.decoded, call.scored, call.finished = marks
    return call


def _counts(store: Store, name: str, labels: dict[str, str]) -> list[int]:
    return next(cells for key, cells in store.read().items() if key == (name, tuple(labels.items())))


def test_codes_have_the_names_that_go_gives_them() -> None:
    assert [code_name(code) for code in Code] == [
        *("OK", "Canceled", "InvalidArgument", "DeadlineExceeded", "NotFound", "PermissionDenied"),
        *("ResourceExhausted", "Unimplemented", "Internal", "Unavailable", "Unauthenticated"),
    ]


@pytest.mark.parametrize("calls", [1, 255, 256, 1000])
def test_a_calls_time_is_told_by_its_parts(calls: int) -> None:
    store = Store()
    every = Calls(store)
    counted = every.of("/a.B/C", Unary(lambda data, _call: data))
    for _ in range(calls):
        counted.started()
        counted.received()
        # 100 us of waiting belong to the bucket up to 100 us; 50 ms and 1 ns do not to the one up to 50 ms.
        counted.ended(
            _call(0, 1_000, 101_000, 101_500, 50_101_501, 50_101_501), Code.OK, 2_000_000_000, answered=True
        )
    every.flush()
    assert _counts(store, "grpc_server_started_total", _LABELS) == [calls]
    assert _counts(store, "grpc_server_handled_total", _LABELS | {"grpc_code": "OK"}) == [calls]
    assert _counts(store, "grpc_server_msg_sent_total", _LABELS) == [calls]
    for name, labels, bucket, took in (
        ("grpc_server_handling_seconds", _LABELS, len(BOUNDS), 2_000_000_000),
        ("forest_call_phase_seconds", _PLACE | {"phase": "wait"}, 0, 100_000),
        ("forest_call_phase_seconds", _PLACE | {"phase": "decode"}, 0, 500),
        ("forest_call_phase_seconds", _PLACE | {"phase": "run"}, BOUNDS.index(0.1), 50_000_001),
        ("forest_call_phase_seconds", _PLACE | {"phase": "encode"}, 0, 0),
    ):
        expected = [0] * (len(BOUNDS) + 2)
        expected[bucket], expected[-1] = calls, calls * took
        assert _counts(store, name, labels) == expected


def test_a_call_that_failed_has_a_time_but_no_parts() -> None:
    store = Store()
    counted = Calls(store).of("/a.B/C", Unary(lambda data, _call: data))
    counted.ended(_call(0, 1, 2, 3, 4, 5), Code.RESOURCE_EXHAUSTED, 10)
    counted.flush()
    assert _counts(store, "grpc_server_handled_total", _LABELS | {"grpc_code": "ResourceExhausted"}) == [1]
    assert sum(_counts(store, "grpc_server_handling_seconds", _LABELS)[:-1]) == 1
    assert not [key for key in store.read() if key.name == "forest_call_phase_seconds"]


def test_a_burst_is_counted_as_its_calls_are_one_by_one() -> None:
    ends = [
        (code, 10 + place, code is Code.OK)
        for place, code in enumerate(
            [Code.OK, Code.UNAVAILABLE, Code.OK, Code.NOT_FOUND, Code.UNAVAILABLE] * 60
        )
    ]
    together, apart = Store(), Store()
    counted = Calls(together).of("/a.B/C", Unary(lambda data, _call: data))
    counted.ended_together([(_call(0, 1, 2, 3, 4, 5), *end) for end in ends])
    counted.flush()
    counted = Calls(apart).of("/a.B/C", Unary(lambda data, _call: data))
    for code, now, answered in ends:
        counted.ended(_call(0, 1, 2, 3, 4, 5), code, now, answered=answered)
    counted.flush()
    assert together.read() == apart.read()
    assert _counts(together, "grpc_server_handled_total", _LABELS | {"grpc_code": "Unavailable"}) == [120]
    assert _counts(together, "grpc_server_msg_sent_total", _LABELS) == [120]


@pytest.mark.parametrize("one_by_one", [True, False])
def test_decisions_are_counted_by_outcome_and_score_and_rows_by_bin(
    mixed_bundle: Path, one_by_one: bool
) -> None:
    store = Store()
    models = Models(mixed_bundle.parents[1], store=store)
    models.load()
    model, bundle = models.serving("mixed", "")
    rng = np.random.default_rng(1)
    scores = rng.random(LOOKED + 300).astype(np.float32).astype(np.float64)
    rows = np.tile(np.array([50, 40, 1, 1, 8], np.float32), (len(scores), 1))
    rows[::2, 3] = 0
    call = _call(0, 0, 0, 0, 0, 0)
    if one_by_one:
        for row, score in zip(rows, scores, strict=True):
            with model.lock:
                model.decisions.row(call, row, float(score))
    else:
        for _ in model.decisions.rows(call, rows, scores):
            pass
    models.flush()
    of_model = {"model": "mixed", "version": "1.0.0"}
    assert _counts(store, "forest_rows_total", of_model) == [len(scores)]
    for label, level in (("no", "low"), ("no", "high"), ("yes", "low"), ("yes", "high")):
        expected = sum(
            bundle.decision.label(score) == label and bundle.decision.risk_level(score) == level
            for score in scores.tolist()
        )
        found = _counts(store, "predictions_total", of_model | {"label": label, "risk_level": level})
        assert found == [expected]
    key, cells = next((key, cells) for key, cells in store.read().items() if key.name == "model_score")
    bounds = [float(bound) for bound in dict(key.labels)["bounds"].strip("[]").split(",")]
    for index, bound in enumerate(bounds):
        assert sum(cells[: index + 1]) == sum(scores <= bound)
    total = struct.unpack("d", struct.pack("q", cells[-1]))[0]
    assert total == pytest.approx(scores.sum())
    # Of more rows than are looked at in a second, some from everywhere are.
    histograms = reference.read(
        mixed_bundle, Manifest.from_bytes((mixed_bundle / "manifest.json").read_bytes())
    )
    for histogram in histograms:
        looked = _counts(store, "data_rows", of_model | {"feature": histogram.name})
        assert (sum(looked), len(looked)) == (LOOKED, histogram.counts.size)
    flag = _counts(store, "data_rows", of_model | {"feature": histograms[3].name})
    assert min(flag[1:3]) > 0.4 * LOOKED
    # A second later it looks on.
    with model.lock:
        model.decisions.row(call, rows[0], 0.5)
    models.flush()
    assert sum(_counts(store, "data_rows", of_model | {"feature": "score"})) == LOOKED + 1


def test_who_is_there_and_who_may_be_called_is_told(mixed_bundle: Path) -> None:
    store = Store()
    models = Models(mixed_bundle.parents[1], "sha256:" + 64 * "0", store=store)
    models.load()
    states = {dict(key.labels)["model"]: cells for key, cells in store.read().items() if key.name == "model"}
    assert states == {"mixed": [1, 0]}
    models = Models(mixed_bundle.parents[1], store=store)
    models.load()
    states = {dict(key.labels)["digest"]: cells for key, cells in store.read().items() if key.name == "model"}
    assert states == {models.found[0].digest: [1, 1]}
