"""Loading a bundle: every file is checked, and the first fault is named."""

import json
import shutil
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from model_bundle import bundle, digest, golden, runtime
from model_bundle.bundle import BundleError
from model_bundle.runtime import RuntimeRefusedError, check_version
from model_bundle.session import Session


@pytest.fixture
def folder(fraud_bundle: Path, tmp_path: Path) -> Path:
    """Return a bundle that may be changed."""
    return Path(shutil.copytree(fraud_bundle, tmp_path / "fraud" / "1.0.0"))


def refusal(folder: Path) -> str:
    with pytest.raises(BundleError) as caught:
        bundle.load(folder)
    return str(caught.value)


def rewrite(folder: Path, name: str, data: bytes) -> None:
    """Replace a file, and its digest in the manifest."""
    (folder / name).write_bytes(data)
    change(folder, lambda document: document["files"].update({name: digest.of_bytes(data)}))


def change(folder: Path, apply: Callable[[dict], None]) -> None:
    document = json.loads((folder / bundle.MANIFEST).read_bytes())
    apply(document)
    (folder / bundle.MANIFEST).write_text(json.dumps(document))


def change_golden(folder: Path, line: int, **values: object) -> None:
    lines = (folder / bundle.GOLDEN).read_bytes().splitlines()
    lines[line] = json.dumps(json.loads(lines[line]) | values).encode()
    rewrite(folder, bundle.GOLDEN, b"\n".join(lines))


def test_a_right_bundle_scores_as_its_golden_rows(folder: Path):
    loaded = bundle.load(folder)
    with closing(loaded.session):
        assert loaded.digest == digest.of_file(folder / bundle.MANIFEST)
        for row in golden.from_bytes((folder / bundle.GOLDEN).read_bytes()):
            loaded.encoder.encode_record(row.record)
            assert loaded.decision.outcome(loaded.session.score_row()) == row.outcome


@pytest.mark.parametrize("name", bundle.FILES)
def test_refuses_a_file_that_was_changed(folder: Path, name: str):
    data = bytearray((folder / name).read_bytes())
    data[len(data) // 2] ^= 1
    (folder / name).write_bytes(data)
    assert refusal(folder).startswith(f"{name}: its digest is sha256:")


@pytest.mark.parametrize("name", [bundle.MANIFEST, *bundle.FILES])
def test_refuses_a_file_that_is_absent(folder: Path, name: str):
    (folder / name).unlink()
    assert refusal(folder) == f"{name}: No such file or directory"


@pytest.mark.parametrize("name", bundle.FILES)
def test_refuses_a_manifest_that_does_not_list_a_file(folder: Path, name: str):
    change(folder, lambda document: document["files"].pop(name))
    assert refusal(folder) == f"manifest.json: files: lacks {name}"


@pytest.mark.parametrize("place", ["fraud/1.0.1", "credit/1.0.0"])
def test_refuses_a_folder_of_another_name(folder: Path, place: str):
    other = folder.parents[1] / place
    other.parent.mkdir(exist_ok=True)
    folder.rename(other)
    assert refusal(other) == f"manifest.json is of fraud 1.0.0, but the folder is {place}"


def test_refuses_a_manifest_that_is_none(folder: Path):
    (folder / bundle.MANIFEST).write_bytes(b"{}")
    assert refusal(folder).startswith("manifest.json: the document: lacks schema_version")


@pytest.mark.parametrize("graph", [b"", b"no graph", b"\x08\x08\x12\x00"])
def test_refuses_a_graph_that_is_none(folder: Path, graph: bytes):
    rewrite(folder, bundle.GRAPH, graph)
    assert refusal(folder).startswith("model.onnx: ONNX Runtime: ")


def test_refuses_a_graph_that_was_cut(folder: Path):
    rewrite(folder, bundle.GRAPH, (folder / bundle.GRAPH).read_bytes()[:-1000])
    assert refusal(folder).startswith("model.onnx: ONNX Runtime: ")


@pytest.mark.parametrize("key", ["input", "output"])
def test_refuses_names_that_the_graph_does_not_have(folder: Path, key: str):
    change(folder, lambda document: document["graph"].update({key: "absent"}))
    message = refusal(folder)
    assert "ONNX Runtime: " in message
    assert "absent" in message


def test_refuses_another_width_of_output(folder: Path):
    change(folder, lambda document: document["graph"].update({"columns": 3}))
    assert "ONNX Runtime: " in refusal(folder)


def test_refuses_the_other_column(folder: Path):
    change(folder, lambda document: document["graph"].update({"column": 0}))
    assert refusal(folder).startswith("golden.jsonl: golden row 1 (ordinary): probability ")


def test_refuses_another_number_of_features(folder: Path):
    change(folder, lambda document: document["features"].pop())
    assert refusal(folder).startswith(
        "golden.jsonl: golden row 1 (ordinary) is refused: Amount: the model has no such feature"
    )


def test_refuses_golden_rows_that_do_not_replay(folder: Path):
    change_golden(folder, 3, probability=0.123)
    assert refusal(folder).startswith("golden.jsonl: golden row 4 (ordinary): probability ")
    assert "but the trained forest gave 0.123" in refusal(folder)


def test_refuses_golden_rows_of_another_label(folder: Path):
    change_golden(folder, 0, label="fraud")
    assert refusal(folder).endswith("label legitimate, but the trained forest gave fraud")


def test_refuses_a_threshold_that_turns_a_label(folder: Path):
    rows = golden.from_bytes((folder / bundle.GOLDEN).read_bytes())
    least = min(row.outcome["probability"] for row in rows if row.outcome["label"] == "fraud")
    change(folder, lambda document: document.update(threshold=float(np.nextafter(least, 1))))
    assert "label legitimate, but the trained forest gave fraud" in refusal(folder)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b"", "there are no golden rows"),
        (b"{}", "line 1: KeyError('kind')"),
        (b"no", "line 1: JSONDecodeError"),
        (b"\xff", "line 1: UnicodeDecodeError"),
        (b'{"kind": "a", "record": {"V31": 1}, "probability": 0, "label": "fraud"}', "refused: V31: "),
        (b'{"kind": "a", "record": 3, "probability": 0, "label": "fraud"}', "line 1: TypeError"),
        (b'{"kind": "a", "record": {}, "probability": NaN, "label": "fraud"}', "is refused: Time: missing"),
    ],
)  # fmt: skip
def test_refuses_golden_rows_that_are_none(folder: Path, line: bytes, message: str):
    rewrite(folder, bundle.GOLDEN, line)
    assert message in refusal(folder)


@pytest.mark.parametrize("value", [None, "12", True, 1e39])
def test_refuses_golden_rows_that_a_caller_could_not_send(folder: Path, value: object):
    record = json.loads((folder / bundle.GOLDEN).read_bytes().splitlines()[1])["record"]
    change_golden(folder, 1, record={**record, "Amount": value})
    assert refusal(folder).startswith("golden.jsonl: golden row 2 (ordinary) is refused: Amount: ")


def test_a_probability_that_is_no_number_does_not_replay(folder: Path):
    change_golden(folder, 0, probability=float("nan"))
    assert "but the trained forest gave nan" in refusal(folder)


@pytest.mark.parametrize("version", ["1.26.0", "1.27.1", "1.9.0", "2.0.0", "0.5", "", "dev"])
def test_refuses_versions_of_the_runtime(version: str):
    with pytest.raises(RuntimeRefusedError, match="not known to score forests right"):
        check_version(version)


@pytest.mark.parametrize("version", ["1.28.0", "1.31.1", "1.100.0", "1.29.0.dev1"])
def test_accepts_versions_of_the_runtime(version: str):
    check_version(version)


def test_a_bundle_is_refused_by_a_runtime_that_is_not_right(folder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(runtime, "load", lambda: check_version("1.27.0"))
    assert refusal(folder).startswith("model.onnx: ONNX Runtime 1.27.0 is not known to score forests right")


def test_telemetry_is_off_before_the_library_is_loaded():
    import os

    assert os.environ["ORT_DISABLE_TELEMETRY"] == "1"


def test_a_row_has_the_same_bits_alone_and_in_any_batch(folder: Path):
    loaded = bundle.load(folder)
    with closing(loaded.session) as session:
        random = np.random.default_rng(0)
        rows = random.normal(size=(300, 30)).astype(np.float32) * np.float32(4)
        alone = []
        for row in rows:
            loaded.encoder.encode_vector(row.tolist())
            alone.append(session.score_row())
        assert len(set(alone)) > 10
        for size in (1, 2, 7, 64, 300):
            parts = [session.score(rows[start : start + size]) for start in range(0, 300, size)]
            assert np.concatenate(parts).tolist() == alone
        assert session.score(np.asfortranarray(rows)).tolist() == alone
        assert session.score(rows[::-1]).tolist() == alone[::-1]
        assert session.score(rows[:0]).shape == (0,)


def test_a_wrong_number_of_columns_is_refused_and_the_session_goes_on(folder: Path):
    loaded = bundle.load(folder)
    with closing(loaded.session) as session:
        good = session.score(np.zeros((2, 30), np.float32))
        for columns in (1, 29):
            with pytest.raises(RuntimeRefusedError):
                session.score(np.zeros((2, columns), np.float32))
        assert session.score(np.zeros((2, 30), np.float32)).tolist() == good.tolist()


def test_sessions_of_one_process_do_not_mix(folder: Path):
    loaded, other = bundle.load(folder), bundle.load(folder)
    with closing(loaded.session), closing(other.session):
        rows = golden.from_bytes((folder / bundle.GOLDEN).read_bytes())
        by_score = sorted(rows, key=lambda row: row.outcome["probability"])
        low, high = by_score[0], by_score[-1]
        loaded.encoder.encode_record(low.record)
        other.encoder.encode_record(high.record)
        assert (loaded.session.score_row(), other.session.score_row()) == (
            low.outcome["probability"],
            high.outcome["probability"],
        )


def test_digests(tmp_path: Path):
    path = tmp_path / "file"
    path.write_bytes(b"abc")
    expected = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert digest.of_bytes(b"abc") == digest.of_file(path) == expected


def test_a_session_says_what_is_wrong_with_bytes():
    from model_bundle.manifest import Graph

    with pytest.raises(RuntimeRefusedError, match="ONNX Runtime: "):
        Session(b"no graph", Graph("X", "probabilities", 2, 1), np.zeros(30, np.float32))


def test_refuses_a_manifest_with_two_features_swapped(folder: Path):
    def swap(document: dict[str, Any]) -> None:
        features = document["features"]
        features[14], features[17] = features[17], features[14]

    change(folder, swap)
    assert "but the trained forest gave" in refusal(folder)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"value": 1e6}, "golden row 1 (ordinary): value "),
        ({"low": -1.0}, "golden row 1 (ordinary): low "),
        ({"high": 1e6}, "golden row 1 (ordinary): high "),
        (
            {"label": "much"},
            "golden row 1 (ordinary) has value, low, high, label, but the model gives value, low",
        ),
        ({"value": "much"}, "golden row 1 (ordinary): value "),
        ({"value": None}, "golden row 1 (ordinary): value "),
    ],
)
def test_refuses_a_regression_whose_golden_rows_do_not_replay(
    four_models: Path, tmp_path: Path, values: dict[str, object], message: str
):
    folder = Path(shutil.copytree(four_models / "demand" / "1.0.0", tmp_path / "demand" / "1.0.0"))
    bundle.load(folder).session.close()
    change_golden(folder, 0, **values)
    assert refusal(folder).startswith(f"golden.jsonl: {message}")


def test_refuses_a_graph_that_fills_a_missing_value_otherwise_than_in_training(
    four_models: Path, tmp_path: Path
):
    folder = Path(shutil.copytree(four_models / "churn" / "1.0.0", tmp_path / "churn" / "1.0.0"))
    graph = onnx.load(folder / bundle.GRAPH)
    (imputer,) = [node for node in graph.graph.node if node.op_type == "Imputer"]
    (values,) = [item.floats for item in imputer.attribute if item.name == "imputed_value_floats"]
    values[-1] = 5_000.0
    rewrite(folder, bundle.GRAPH, graph.SerializeToString())
    assert "probability" in refusal(folder)
