"""The audit log by itself: what records hold, where they go, and what becomes of them when a disk is full."""

import hmac
import json
import math
import os
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest

from model_bundle.decision import Estimate
from model_bundle.manifest import Interval
from server.audit import files
from server.audit.__main__ import main
from server.audit.files import Files
from server.audit.log import Audit
from server.audit.record import Form
from server.call import Call
from server.decisions import Identity
from server.models import Models
from server.status import Code, StatusError


@pytest.fixture
def model(write_mixed: Callable[..., Path], tmp_path: Path) -> Any:
    models = Models(write_mixed(tmp_path / "models").parents[1])
    models.load()
    (found,) = models.found
    assert found.bundle
    return Identity(found.name, found.version, found.digest, found.bundle)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "audit"


@pytest.fixture
def make(folder: Path) -> Callable[..., Audit]:
    """Return a function that makes an audit log, in `folder` if it is not told otherwise."""

    def run(
        mode: str = "strict", *, place: Path = folder, size: int = 1 << 20, age: float = 1e6, **more: Any
    ) -> Audit:
        audit = Audit(mode, Files(place, size, age, more.pop("keep", 0)), **more)
        audit.start()
        return audit

    return run


def a_call(request_id: str = "one", caller: str = "") -> Call:
    call = Call(math.inf, (), lambda: "nobody")
    call.request_id, call.caller = request_id, caller
    call.scored = time.perf_counter_ns()
    return call


def record(audit: Audit, model: Any, *request_ids: str, score: float = 0.25) -> None:
    for request_id in request_ids:
        audit.row(a_call(request_id), model, np.array([1.5, 40, 1, 1, 8], np.float32), score)


def read(folder: Path, pattern: str = "*.jsonl") -> list[dict[str, Any]]:
    """Return all records, by a reader that stands no half line."""
    return [
        json.loads(line) for path in sorted(folder.glob(pattern)) for line in path.read_text().splitlines()
    ]


def ids(folder: Path, pattern: str = "*.jsonl") -> list[str]:
    return [each["request_id"] for each in read(folder, pattern)]


def test_a_record_tells_all_of_a_decision(make, model, folder):
    audit = make()
    call = a_call('pay"ment 100 %b\n', "päyments")
    audit.row(call, model, np.array([0.1, 40, 2, 1, -3e-7], np.float32), 0.1 + 0.2)
    assert call.recorded
    audit.commit()
    (path,) = folder.iterdir()
    assert path.name.endswith(".jsonl.open")
    audit.close()
    (found,) = read(folder)
    told = datetime.fromisoformat(found.pop("time"))
    assert abs((datetime.now(UTC) - told).total_seconds()) < 60
    assert 0 <= found.pop("latency") < 60
    assert found == {
        "request_id": 'pay"ment 100 %b\n',
        "row": None,
        "caller": "päyments",
        "model": "mixed",
        "version": "1.0.0",
        "digest": model.digest,
        "inputs": {"amount": 0.1, "age": 40.0, "country": "ελ", "member": True, "balance": -3e-7},
        "outcome": {"probability": 0.1 + 0.2, "label": "yes", "threshold": 0.3, "risk_level": "low"},
    }
    (path,) = folder.iterdir()
    assert path.name.endswith(".jsonl")
    assert stat.S_IMODE(path.stat().st_mode) & ~0o640 == 0
    assert (audit.records[0], audit.bytes[0]) == (1, path.stat().st_size)


def test_every_row_of_a_batch_is_told_with_its_place(make, model, folder):
    audit, rng = make(), np.random.default_rng(1)
    matrix = np.array([[math.nan, 18, math.nan, 0, 0]] * 600, np.float32)
    matrix[:, 4] = rng.normal(size=600) * 10.0 ** rng.integers(-30, 30, 600)
    scores = rng.random(600)
    call = a_call("batch")
    steps = list(audit.rows(call, model, matrix, scores))
    assert len(steps) == 2, "no step is long"
    assert call.recorded
    audit.commit()
    audit.close()
    found = read(folder)
    assert [each["row"] for each in found] == list(range(600))
    assert {(each["request_id"], each["inputs"]["amount"], each["inputs"]["country"]) for each in found} == {
        ("batch", None, None)
    }
    # The digits are the shortest, and give the very same float32.
    balances = np.array([each["inputs"]["balance"] for each in found]).astype(np.float32)
    assert balances.tobytes() == matrix[:, 4].tobytes()
    outcomes = [each["outcome"] for each in found]
    assert [each["probability"] for each in outcomes] == scores.tolist()
    decision = model.bundle.decision
    assert [each["label"] for each in outcomes] == [decision.label(score) for score in scores]
    assert [each["risk_level"] for each in outcomes] == [decision.risk_level(score) for score in scores]
    assert len({(each["label"], each["risk_level"]) for each in outcomes}) == 3


def test_labels_and_levels_change_where_decisions_do(make, model, folder):
    audit, decision = make(), model.bundle.decision
    scores = [np.nextafter(edge, way) for edge in (0, 0.3, 0.5) for way in (-1, edge, 2)]
    for score in scores:
        record(audit, model, "one", score=float(score))
    audit.close()
    told = [(each["outcome"]["label"], each["outcome"]["risk_level"]) for each in read(folder)]
    assert told == [(decision.label(score), decision.risk_level(score)) for score in scores]


def test_a_regression_has_its_interval(make, model, folder):
    interval = Interval(0.9, "test", 0.0, (1.0,), (0.5, 2.0), (0.25, 4.0))
    model = replace(model, bundle=replace(model.bundle, decision=Estimate(interval)))
    audit = make()
    record(audit, model, "one", "two", score=0.25)
    record(audit, model, "three", score=8.0)
    audit.close()
    assert [each["outcome"] for each in read(folder)] == [
        *2 * [{"value": 0.25, "low": 0.0, "high": 0.5}],
        {"value": 8.0, "low": 6.0, "high": 12.0},
    ]


def test_what_is_redacted_is_nowhere(make, model, folder, tmp_path):
    audit = make(redacted=["country", "mixed.member", "other.age"])
    record(audit, model, "one")
    list(audit.rows(a_call("two"), model, np.ones((2, 5), np.float32), np.ones(2)))
    audit.close()
    for each in read(folder):
        assert list(each["inputs"]) == ["amount", "age", "balance"]
    every = ["country", "member", "amount", "mixed.age", "balance"]
    (tmp_path / "key").write_bytes(bytes(16))
    for inputs, key in (("values", None), ("hash", tmp_path / "key")):
        audit = make(place=folder / "bare", redacted=every, inputs=inputs, key=key)
        record(audit, model, "one")
        audit.close()
    bare, hashed = read(folder / "bare")
    assert (bare["inputs"], hashed["inputs_hash"].partition(":")[0]) == ({}, "hmac-sha256")


def test_a_hash_is_of_the_inputs_and_by_the_key(make, model, folder, tmp_path):
    key = tmp_path / "key"
    key.write_bytes(os.urandom(32))
    plain = make(place=tmp_path / "plain", redacted=["age"])
    hashed = make(inputs="hash", redacted=["age"], key=key)
    for audit in (plain, hashed):
        audit.row(a_call(), model, np.array([1.1, 40, 2, 1, -1.5e-5], np.float32), 0.25)
        audit.close()
    (values,), (found,) = read(tmp_path / "plain"), read(folder)
    assert "inputs" not in found
    # As docs/audit.md says.
    inputs = {"amount": float(str(np.float32(1.1))), "country": "ελ", "member": True}
    inputs["balance"] = float(str(np.float32(-1.5e-5)))
    assert values["inputs"] == inputs
    told = hmac.digest(key.read_bytes(), orjson.dumps(inputs), "sha256").hex()
    assert found["inputs_hash"] == "hmac-sha256:" + told
    key.write_bytes(b"short")
    with pytest.raises(ValueError, match=r"audit_key: .* has 5 bytes, and 16 at least are needed"):
        make(inputs="hash", key=key)
    with pytest.raises(OSError, match=r"audit_key: cannot read .*none: No such file"):
        make(inputs="hash", key=tmp_path / "none")


def test_nothing_of_the_inputs_if_so_told(make, model, folder):
    audit = make(inputs="none")
    record(audit, model, "one")
    audit.close()
    (found,) = read(folder)
    assert found.keys() & {"inputs", "inputs_hash"} == set()
    assert main(["verify", str(folder)]) == 0


def test_files_are_rotated_by_size_and_by_age_and_deleted_when_old(make, model, folder):
    audit = make("strict", size=2_000)
    for number in range(20):
        record(audit, model, str(number))
        audit.commit()
    assert len(list(folder.glob("*.jsonl"))) >= 3
    assert max(path.stat().st_size for path in folder.iterdir()) <= 2_000
    audit.close()
    assert sorted(ids(folder), key=int) == ids(folder) == [str(number) for number in range(20)]
    aged = make("best-effort", age=0.5)
    record(aged, model, "aged")
    deadline = time.monotonic() + 10
    while "aged" not in ids(folder):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    aged.close()
    for path in folder.glob("*.jsonl"):
        if "aged" not in path.read_text():
            os.utime(path, (0, time.time() - 3 * 86_400))
    make(keep=4).close()
    assert len(ids(folder)) == 21
    make(keep=2).close()
    assert ids(folder) == ["aged"]


def test_an_idle_server_leaves_no_file(make, folder):
    make("best-effort").close()
    assert list(folder.iterdir()) == []


_TORN = """
import os, sys
from pathlib import Path
from server.audit.files import Files
files = Files(Path(sys.argv[1]), 1 << 20, 1e6, 0)
for part in sys.argv[2:]:
    files.write(part.encode().decode("unicode_escape").encode("latin-1"), durably=True)
os.kill(os.getpid(), 9)
"""


def killed(folder: Path, *parts: str) -> None:
    """Let a process write, and end by a signal that it cannot see."""
    ran = subprocess.run([sys.executable, "-c", _TORN, str(folder), *parts], check=False)
    assert ran.returncode == -9


@pytest.mark.parametrize(
    ("written", "whole"),
    [
        (["{}\\n", "{}\\n"], b"{}\n{}\n"),
        (['{"a":1}\\n', '{"a":'], b'{"a":1}\n'),
        # The length had come to the disk, and what is there had not.
        (["{}\\n", "\\0" * 5_000], b"{}\n"),
        (["{}\\n", "\\0\\0\\0\\n\\0}\\n"], b"{}\n"),
    ],
    ids=["whole", "torn", "zeros", "zeros with ends of lines"],
)
def test_what_a_killed_process_left_is_closed_without_its_torn_end(make, folder, written, whole):
    killed(folder, *written)
    (orphan,) = folder.iterdir()
    assert orphan.name.endswith(".jsonl.open")
    audit = make()
    (path,) = folder.glob("*.jsonl")
    assert path.name == orphan.name.removesuffix(".open")
    assert path.read_bytes() == whole
    audit.close()


def test_an_orphan_without_a_record_goes_and_an_open_file_is_left_alone(make, model, folder):
    other = make()
    record(other, model, "other")
    other.commit()
    killed(folder, '{"a":')
    assert len(list(folder.iterdir())) == 2
    audit = make()
    (path,) = folder.iterdir()
    assert path.read_text().count("\n") == 1
    assert path.name.endswith(".jsonl.open")
    record(other, model, "more")
    for each in (other, audit):
        each.close()
    assert ids(folder) == ["other", "more"]


@contextmanager
def small_disk(place: Path) -> Iterator[None]:
    place.mkdir()
    options = ["-t", "tmpfs", "-o", "size=64k", "tmpfs"]
    mounted = subprocess.run(["mount", *options, str(place)], capture_output=True, text=True, check=False)
    if mounted.returncode:
        pytest.skip(f"no disk of 64 KiB can be mounted here: {mounted.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", str(place)], check=True)


def test_a_full_disk_refuses_answers_by_strict_until_there_is_room(make, model, folder):
    with small_disk(folder):
        ballast = folder / "ballast"
        ballast.write_bytes(bytes(40_000))
        audit = make()
        told: list[str] = []

        def decide(*request_ids: str) -> None:
            for request_id in request_ids:
                record(audit, model, request_id)
                audit.commit()
                told.append(request_id)

        with pytest.raises(StatusError, match="No space left on device") as caught:
            decide(*map(str, range(1_000)))
        assert caught.value.code == Code.UNAVAILABLE
        assert 10 < len(told) < 100
        # Nothing of what was refused is there, and no file is half written.
        assert ids(folder) == told
        with pytest.raises(StatusError, match="cannot be written"):
            decide("refused")
        assert (audit.failures[0], audit.records[0], audit.dropped[0]) == (2, len(told), 0)
        ballast.unlink()
        decide("again")
        audit.close()
        assert ids(folder) == told


def test_a_full_disk_holds_up_nobody_by_best_effort_and_is_counted(make, model, folder):
    with small_disk(folder):
        ballast = folder / "ballast"
        ballast.write_bytes(bytes(60_000))
        audit = make("best-effort")
        record(audit, model, *map(str, range(50)))
        audit.commit()
        deadline = time.monotonic() + 10
        while not audit.failures[0]:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        assert audit.dropped[0] == 50
        ballast.unlink()
        record(audit, model, "again")
        audit.close()
        assert ids(folder) == ["again"]
        assert audit.records[0] == 1


def test_what_best_effort_holds_is_bounded(make, model, folder, monkeypatch):
    from server.audit import log

    monkeypatch.setattr(log, "_BUFFER_BYTES", 4_000)
    monkeypatch.setattr(log, "_INTERVAL", 1_000)
    audit = make("best-effort")
    record(audit, model, *map(str, range(50)))
    audit.close()
    assert 5 < audit.records[0] < 15
    assert audit.dropped[0] == 50 - audit.records[0]
    assert ids(folder) == [str(number) for number in range(audit.records[0])]


def test_who_wrote_for_another_thread_does_not_hide_that_it_failed(make, model, folder, monkeypatch):
    audit = make()
    monkeypatch.setattr(audit._files, "write", _failing)
    record(audit, model, "one")
    failures: list[str] = []

    def commit() -> None:
        try:
            audit.commit()
        except StatusError as error:
            failures.append(error.message)

    other = threading.Thread(target=commit)
    other.start()
    other.join()
    # Its record was taken by the other thread, and is nowhere.
    commit()
    commit()
    assert len(failures) == 2
    monkeypatch.undo()
    audit.close()


def test_a_disk_that_hangs_holds_up_no_end_and_what_is_lost_is_told(make, model, monkeypatch, caplog):
    audit = make("best-effort")
    hung, again = threading.Event(), threading.Event()

    def hang(_data: bytes, *, durably: bool) -> None:
        assert not durably
        hung.set()
        again.wait()

    monkeypatch.setattr(audit._files, "write", hang)
    record(audit, model, "one", "two")
    assert hung.wait(10)
    # These wait for their turn.
    record(audit, model, "three")
    list(audit.rows(a_call("four"), model, np.ones((3, 5), np.float32), np.ones(3)))
    audit.close(0.01)
    assert audit.dropped[0] == 6
    assert "does not answer, and its file is left open: 6 records are lost" in caplog.text
    again.set()
    audit._thread.join(10)


def _failing(_data: bytes, *, durably: bool) -> None:
    assert durably
    raise OSError(5, "Input/output error")


def test_a_fault_that_nobody_foresaw_refuses_all_whose_records_it_took(
    make, model, tmp_path, monkeypatch, caplog
):
    from server.audit import log

    def fail(_found: object) -> None:
        raise KeyError("secret")

    for mode in ("strict", "best-effort"):
        audit = make(mode, place=tmp_path / mode)
        with monkeypatch.context() as patched:
            patched.setattr(log, "_lines", fail)
            record(audit, model, "one")
            list(audit.rows(a_call("two"), model, np.ones((3, 5), np.float32), np.ones(3)))
            with audit._writing:
                audit._write()
        if mode == "strict":
            # By another thread than the one that lost them.
            with pytest.raises(StatusError, match=r"cannot be written \(a fault of the server\)"):
                audit.commit()
        audit.commit()
        assert (audit.failures[0], audit.dropped[0]) == (1, 0 if mode == "strict" else 4)
        audit.close()
    assert caplog.text.count("fault while records were made") == 2


def test_a_time_has_all_its_digits_at_both_ends_of_a_second(model):
    begin = 1_790_000_000 * 10**9
    lines = Form(model.bundle.manifest, model.digest, model.bundle.decision).lines(
        np.ones((3, 5), np.float32),
        np.full(3, 0.25),
        requests=[b'"one"'] * 3,
        places=[b"null"] * 3,
        callers=[b'""'] * 3,
        times=np.array([begin, begin + 999_999_999, begin + 10**9]),
        latencies=np.array([0.0, 1e-6, 2.5]),
    )
    found = [json.loads(line) for line in lines.splitlines()]
    assert [each["time"][-10:] for each in found] == ["20.000000Z", "20.999999Z", "21.000000Z"]
    assert [each["latency"] for each in found] == [0.0, 1e-6, 2.5]


def test_an_id_of_a_million_characters_is_not_told_with_every_row(make, model, folder, capsys):
    audit = make()
    call = a_call("é" * 1_000_000)
    list(audit.rows(call, model, np.ones((300, 5), np.float32), np.ones(300)))
    audit.row(call, model, np.ones(5, np.float32), 0.25)
    audit.close()
    assert set(ids(folder)) == {"é" * 256}
    assert audit.bytes[0] < 500_000
    assert main(["erase", str(folder), "--request-id", call.request_id]) == 0
    assert "erased 301 records" in capsys.readouterr().out


def test_what_a_link_leads_to_is_left_alone(make, folder, tmp_path):
    other = tmp_path / "other"
    other.write_text("no record")
    folder.mkdir()
    (folder / "link.jsonl.open").symlink_to(other)
    make().close()
    assert other.read_text() == "no record"


@pytest.mark.parametrize(
    ("place", "complaint"),
    [("file/audit", "Not a directory"), ("none/audit", "No such file or directory"), ("file", "File exists")],
)
def test_a_folder_that_cannot_be_is_told_at_the_start(make, tmp_path, place, complaint):
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match=rf"audit_folder .*{place}: {complaint}"):
        make(place=tmp_path / place)


def test_a_persons_records_are_erased_and_those_of_others_stay(make, model, folder, tmp_path, capsys):
    audit = make(size=2_000)
    for number in range(9):
        record(audit, model, str(number % 5))
        audit.commit()
    list(audit.rows(a_call("batch"), model, np.ones((3, 5), np.float32), np.ones(3)))
    audit.close()
    killed(folder, '{"request_id":"3","row":null}\\n{"request_id":"8","row":null}\\n{"requ')
    writing = make()
    record(writing, model, "3")
    writing.commit()
    before = {path: path.stat() for path in folder.glob("*.jsonl")}
    listed = tmp_path / "ids"
    listed.write_text("3\nbatch\t1\n")
    assert main(["erase", str(folder), "--request-ids", str(listed), "--request-id", "0", "absent"]) == 3
    out = capsys.readouterr().out
    # Two of "0", two of "3" and one more of it that was an orphan's, and a row of the batch.
    assert out.startswith("erased 6 records from ")
    assert "left 1 records in " in out
    found = read(folder)
    assert {each["request_id"] for each in found} == {"1", "2", "4", "8", "batch"}
    assert [each["row"] for each in found if each["request_id"] == "batch"] == [0, 2]
    assert all(path.stat().st_mtime_ns == before[path].st_mtime_ns for path in folder.glob("*.jsonl"))
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} <= {0o640, 0o600}
    # What was written meanwhile is there once its file is closed.
    record(writing, model, "new")
    writing.close()
    assert "3" in ids(folder)
    assert main(["erase", str(folder), "--request-id", "3"]) == 0
    assert {"3", "new"} & set(ids(folder)) == {"new"}
    journal = (folder / "erasures.log").read_text().splitlines()
    assert [json.loads(line)["records"] for line in journal] == [6, 1]
    assert not {"batch", "absent"} & set(journal)
    assert main(["erase", str(folder)]) == 2
    assert main(["erase", str(folder), "--request-id", ""]) == 2
    assert main(["erase", str(tmp_path / "none"), "--request-id", "1"]) == 2


def test_an_erasure_goes_by_whole_ids(make, model, folder, tmp_path, capsys):
    audit = make()
    # Each of the first has in it what ends a line somewhere. Its parts are requests of others.
    record(audit, model, "a\x0cb", "a\x85b", "a\u2028b", "a\rb", "a", "b", "first", "second", "third")
    audit.close()
    listed = tmp_path / "ids"
    # As an editor of another system writes it: with a mark at its beginning, and two bytes at a line's end.
    listed.write_bytes("\ufefffirst\r\n\r\na\x0cb\na\x85b\na\u2028b\na\rb\r\n".encode())
    assert main(["erase", str(folder), "--request-ids", str(listed)]) == 0
    assert ids(folder) == ["a", "b", "second", "third"]
    assert main(["erase", str(folder), "--request-id", "second", "--request-id", "third"]) == 0
    assert ids(folder) == ["a", "b"]
    listed.write_bytes(b"a\ncaf\xe9\n")
    assert main(["erase", str(folder), "--request-ids", str(listed)]) == 2
    assert "is no UTF-8" in capsys.readouterr().err
    assert ids(folder) == ["a", "b"]


def test_an_erasure_that_has_no_room_changes_nothing_and_takes_none(make, model, folder, capsys):
    with small_disk(folder):
        audit = make()
        record(audit, model, *map(str, range(50)))
        audit.close()
        ballast = folder / "ballast"
        with pytest.raises(OSError, match="No space left"):
            ballast.write_bytes(bytes(64 * 1024))
        assert main(["erase", str(folder), "--request-id", "7"]) == 2
        # Nor is there any for what would tell of it.
        assert f"{folder / 'erasures.log'}: No space left" in capsys.readouterr().err
        assert (folder / "erasures.log").read_bytes() == b""
        assert ids(folder) == list(map(str, range(50)))
        assert list(folder.glob(".*")) == []
        ballast.unlink()
        assert main(["erase", str(folder), "--request-id", "7"]) == 0
        assert len(ids(folder)) == 49


def test_an_erasure_that_a_full_disk_ends_tells_what_it_has_erased(make, model, folder, capsys):
    with small_disk(folder):
        for request_ids in (["7"], [*map(str, range(50))]):
            audit = make()
            record(audit, model, *request_ids)
            audit.close()
        _, large = files.closed(folder)
        ballast = folder / "ballast"
        with pytest.raises(OSError, match="No space left"):
            ballast.write_bytes(bytes(64 * 1024))
        # Room for the journal, and for what a file is replaced by that is as small as the first.
        os.truncate(ballast, ballast.stat().st_size - 2 * 4096)
        command = ["erase", str(folder), "--request-id", "7", "absent"]
        assert main(command) == 2
        assert f"{large}: No space left" in capsys.readouterr().err
        assert ids(folder) == list(map(str, range(50)))
        assert list(folder.glob(".*")) == []
        ballast.unlink()
        assert main(command) == 0
        told = [json.loads(line) for line in (folder / "erasures.log").read_text().splitlines()]
        assert [(each["requests"], each["records"], each["complete"]) for each in told] == [
            (2, 1, False),
            (2, 1, True),
        ]
        assert "7" not in ids(folder)


def test_a_file_that_a_server_deletes_meanwhile_holds_up_nothing(make, model, folder, capsys, monkeypatch):
    audit = make(size=1)
    for request_id in ("1", "2", "3"):
        record(audit, model, request_id, request_id)
        audit.commit()
    audit.close()
    first, second, _ = files.closed(folder)
    closed, replace = files.closed, files.replace

    def listed(folder: Path) -> list[Path]:
        found = closed(folder)
        first.unlink(missing_ok=True)
        return found

    def replace_late(path: Path, data: bytes) -> None:
        if path == second:
            path.unlink()
        replace(path, data)

    monkeypatch.setattr(files, "closed", listed)
    monkeypatch.setattr(files, "replace", replace_late)
    assert main(["verify", str(folder)]) == 0
    capsys.readouterr()
    assert main(["erase", str(folder), "--request-id", "1", "2", "3"]) == 0
    assert capsys.readouterr().out == "erased 2 records from 1 of 1 files\n"


def test_verify_finds_what_is_no_record(make, model, folder, capsys):
    audit = make()
    record(audit, model, "one")
    audit.close()
    assert main(["verify", str(folder)]) == 0
    (path,) = files.closed(folder)
    path.write_bytes(path.read_bytes() + b'{"time":1}\nno\n')
    capsys.readouterr()
    assert main(["verify", str(folder)]) == 1
    out = capsys.readouterr().out.splitlines()
    assert out[0] == f"{path.name}:2: time is missing, or of the wrong type"
    assert out[1].startswith(f"{path.name}:3: no JSON: ")
    assert out[2] == "1 files, 2 lines that are no record"
