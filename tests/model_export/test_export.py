"""The whole way to a bundle: what is in it, that it is always the same, what a failure leaves."""

import json
import lzma
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from model_bundle import bundle, golden, runtime
from model_bundle.encoding import Encoder
from model_bundle.manifest import Manifest
from model_export import conversion, parity, writing
from model_export.__main__ import main
from model_export.export import Exported
from model_export.recipe import Recipe
from model_export.training import round_leaves
from model_export.writing import WritingError

Export = Callable[..., Exported]


def write_csv(path: Path, recipe: Recipe, rows: int) -> Path:
    columns = recipe.generate(np.random.default_rng(8), rows)
    lines = zip(*(map(str, column.tolist()) for column in columns.values()), strict=True)
    content = "\n".join([",".join(line) for line in (columns, *lines)] + [""]).encode()
    path.write_bytes(lzma.compress(content) if path.suffix == ".xz" else content)
    return path


def test_a_bundle_holds_its_files_and_no_others(fraud_bundle: Path):
    assert sorted(path.name for path in fraud_bundle.iterdir()) == sorted([bundle.MANIFEST, *bundle.FILES])
    loaded = bundle.load(fraud_bundle)
    loaded.session.close()
    manifest = loaded.manifest
    assert manifest.lineage.data == "generator"
    assert manifest.lineage.rows == 4_000
    assert manifest.lineage.parameters["n_estimators"] == "32"
    assert set(manifest.metrics) == {"f1", "precision", "recall", "pr_auc", "roc_auc", "brier"}
    assert manifest.lineage.libraries.keys() == {"numpy", "onnx", "onnxruntime", "scikit-learn", "skl2onnx"}
    assert [level.name for level in manifest.risk_levels] == ["low", "medium", "high", "critical"]
    assert all(feature.minimum is not None for feature in manifest.features)


def test_golden_rows_are_of_every_kind_and_of_both_labels(fraud_bundle: Path):
    rows = golden.from_bytes((fraud_bundle / bundle.GOLDEN).read_bytes())
    assert {row.kind for row in rows} == {"ordinary", "threshold", "split", "extreme", "uniform"}
    for kind in ("ordinary", "threshold", "split"):
        assert {row.outcome["label"] for row in rows if row.kind == kind} == {"legitimate", "fraud"}
    assert 400 < len(rows) < 700
    manifest, _ = bundle.read_manifest(fraud_bundle)
    threshold = [row.outcome["probability"] for row in rows if row.kind == "threshold"]
    assert min(threshold) < manifest.threshold < max(threshold)


def test_reference_histograms_count_every_row(fraud_bundle: Path):
    manifest, _ = bundle.read_manifest(fraud_bundle)
    reference = json.loads((fraud_bundle / bundle.REFERENCE).read_bytes())
    assert list(reference["features"]) == [feature.name for feature in manifest.features]
    for histogram in [*reference["features"].values(), reference["score"]]:
        assert len(histogram["counts"]) == len(histogram["edges"]) + 1
        assert sum(histogram["counts"]) + histogram["missing"] == histogram["rows"]
        assert histogram["edges"] == sorted(set(histogram["edges"]))
    rows = {histogram["rows"] for histogram in reference["features"].values()}
    assert rows == {4_000 - reference["score"]["rows"]}
    assert len(reference["features"]["V1"]["edges"]) == 19


def test_the_model_card_is_one_file(fraud_bundle: Path):
    page = (fraud_bundle / bundle.MODEL_CARD).read_text()
    assert "<script" not in page
    assert page.count("<img") == page.count('src="data:image/svg+xml;base64,') == 6
    assert "http:" not in page
    assert "https:" not in page
    assert "must not decide about anybody" in page
    for heading in ("Limits of use", "Split", "Metrics", "Calibration", "Parity", "Features"):
        assert f">{heading}</h" in page


def test_the_same_again_is_the_same_bundle_whatever_the_number_of_threads(
    fraud_export: Export, fraud_bundle: Path
):
    again = fraud_export(jobs=1)
    assert again.digest == bundle.read_manifest(fraud_bundle)[1]
    other = fraud_export(seed=1)
    assert other.digest != again.digest


def test_another_process_makes_the_same_bundle_and_writes_and_calls_nothing_else(
    tmp_path: Path, small_recipe: Recipe, fraud_bundle: Path
):
    program = (
        "import sys, dataclasses, os\n"
        "events = []\n"
        "sys.addaudithook(lambda event, _: event.startswith('socket.') and events.append(event))\n"
        "from model_export import recipe, __main__; find = recipe.find\n"
        "def small(name):\n"
        "    found = find(name)\n"
        "    forest = {**found.forest, 'n_estimators': 32}\n"
        "    return dataclasses.replace(found, forest=forest, generated_rows=4000)\n"
        "recipe.find = small\n"
        "status = __main__.main(['fraud', '--out', 'elsewhere'])\n"
        "files = [f'/proc/self/fd/{number}' for number in os.listdir('/proc/self/fd')]\n"
        "links = [os.readlink(file) for file in files if os.path.exists(file)]\n"
        "assert not events and not any('socket' in link for link in links), (events, links)\n"
        "assert not {'onnxruntime', 'pandas', 'mlflow', 'sqlalchemy'} & set(sys.modules)\n"
        "sys.exit(status)"
    )
    home = tmp_path / "home"
    home.mkdir()
    # A setting that a person may have must not change what is drawn.
    (tmp_path / "matplotlibrc").write_text("axes.facecolor: red\n")
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "TMPDIR": str(temporary),
        "PYTHONHASHSEED": "77",
        "TZ": "Asia/Tokyo",
        "OPENBLAS_NUM_THREADS": "1",
        "OMP_NUM_THREADS": "1",
    }
    done = subprocess.run(
        [sys.executable, "-c", program],
        check=False,
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert bundle.read_manifest(fraud_bundle)[1] in done.stdout
    assert done.stdout.splitlines()[0] == "elsewhere/fraud/1.0.0"
    # It writes the bundle, and nothing else anywhere.
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "elsewhere",
        "home",
        "matplotlibrc",
        "temporary",
    ]
    assert not list(home.rglob("*"))
    assert not list(temporary.rglob("*"))
    assert len(list((tmp_path / "elsewhere").rglob("*"))) == 2 + 1 + len(bundle.FILES)


def test_a_compressed_file_makes_the_same_bundle_as_a_plain_one(
    fraud_export: Export, small_recipe: Recipe, tmp_path: Path
):
    recipe = replace(small_recipe, forest={**small_recipe.forest, "n_estimators": 4})
    plain = fraud_export(recipe, write_csv(tmp_path / "payments.csv", recipe, 1_500))
    packed = fraud_export(recipe, write_csv(tmp_path / "payments.csv.xz", recipe, 1_500))
    assert plain.digest == packed.digest
    assert plain.manifest.lineage.data == "payments.csv"
    assert "must not decide" not in (plain.folder / bundle.MODEL_CARD).read_text()


def test_a_version_is_never_overwritten(fraud_export: Export, fraud_bundle: Path):
    before = {path.name: path.read_bytes() for path in fraud_bundle.iterdir()}
    with pytest.raises(WritingError, match=r"fraud/1\.0\.0 exists, and a version is never overwritten"):
        fraud_export(models=fraud_bundle.parents[1])
    assert {path.name: path.read_bytes() for path in fraud_bundle.iterdir()} == before


def test_a_version_that_appears_meanwhile_is_not_overwritten(fraud_bundle: Path, tmp_path: Path):
    manifest, files = contents(fraud_bundle)
    folder = tmp_path / "fraud" / "1.0.0"
    folder.mkdir(parents=True)
    (folder / "mine").touch()
    with pytest.raises(WritingError, match="never overwritten"):
        writing.write(tmp_path, manifest, files)
    assert [path.name for path in folder.parent.rglob("*")] == ["1.0.0", "mine"]


def test_refusal_comes_before_any_work(fraud_export: Export, fraud_bundle: Path):
    with pytest.raises(WritingError):
        fraud_export(data=Path("absent.csv"), models=fraud_bundle.parents[1])


def test_another_version_goes_beside_the_first(fraud_bundle: Path, tmp_path: Path):
    manifest, files = contents(fraud_bundle)
    for version in ("1.0.0", "1.0.1"):
        writing.write(tmp_path / "new" / "models", replace(manifest, version=version), files)
    assert sorted(path.name for path in (tmp_path / "new/models/fraud").iterdir()) == ["1.0.0", "1.0.1"]


def contents(folder: Path) -> tuple[Manifest, dict[str, bytes]]:
    manifest, _ = bundle.read_manifest(folder)
    return manifest, {name: (folder / name).read_bytes() for name in bundle.FILES}


@pytest.mark.parametrize("failure", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_nothing_is_left_of_a_write_that_fails(
    fraud_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failure: BaseException
):
    def fail(folder: Path) -> None:
        assert len(list(folder.iterdir())) == 5
        raise failure

    manifest, files = contents(fraud_bundle)
    monkeypatch.setattr(bundle, "load", fail)
    with pytest.raises((WritingError, KeyboardInterrupt)):
        writing.write(tmp_path / "new" / "models", manifest, files)
    assert not list(tmp_path.iterdir())


def test_a_bundle_that_does_not_load_is_not_written(fraud_bundle: Path, tmp_path: Path):
    manifest, files = contents(fraud_bundle)
    with pytest.raises(bundle.BundleError, match=r"golden\.jsonl"):
        writing.write(tmp_path / "models", manifest, files | {bundle.GOLDEN: b""})
    assert not list(tmp_path.iterdir())


def run(monkeypatch: pytest.MonkeyPatch, recipe: Recipe, *arguments: object) -> int:
    monkeypatch.setattr("model_export.recipe.find", lambda name: recipe)
    return main(["fraud", *map(str, arguments)])


def test_a_failed_gate_exits_with_1_and_leaves_nothing(
    small_recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    def convert(trained, name: str) -> bytes:
        graph = conversion_of(trained, name)
        forest = trained.forest
        forest.estimators_[3].tree_.value[:, 0, 1] *= 0.5
        round_leaves(forest)
        return graph

    conversion_of = conversion.convert
    monkeypatch.setattr(conversion, "convert", convert)
    assert run(monkeypatch, small_recipe, "--out", tmp_path / "models") == 1
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("forest-export: split row ")
    assert "ONNX Runtime" in last
    assert not list(tmp_path.iterdir())


def test_bad_data_exits_with_2_in_one_line(
    small_recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    data = tmp_path / "bad.csv"
    data.write_text("Time,V1\n1,2\n")
    assert run(monkeypatch, small_recipe, "--data", data, "--out", tmp_path / "models") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"forest-export: {data}:1: the header lacks V2, V3, ")
    assert list(tmp_path.iterdir()) == [data]


def test_an_interrupt_leaves_nothing(
    small_recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(parity, "prove", interrupt)
    assert run(monkeypatch, small_recipe, "--out", tmp_path / "models") == 130
    assert capsys.readouterr().err.splitlines()[-1] == "forest-export: interrupted, nothing was written"
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_is_refused_before_any_work(
    small_recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    (tmp_path / "file").touch()
    assert run(monkeypatch, small_recipe, "--out", tmp_path / "file" / "models") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line == f"forest-export: {tmp_path}/file: not a folder that can be written to"


@pytest.mark.parametrize(
    "arguments", [["--version", "1.0"], ["--version", "v1.0.0"], ["--seed", "-1"], ["--seed", "4294967296"]]
)
def test_refuses_bad_arguments(arguments: list[str], capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as caught:
        main(["fraud", *arguments])
    assert caught.value.code == 2
    assert arguments[1] in capsys.readouterr().err


def test_an_unknown_model_is_refused(capsys: pytest.CaptureFixture[str]):
    assert main(["frauds"]) == 2
    assert capsys.readouterr().err.startswith("forest-export: no recipe for a model 'frauds': there is ")


def test_every_golden_row_is_one_that_a_client_could_send(fraud_bundle: Path):
    manifest, _ = bundle.read_manifest(fraud_bundle)
    encoder = Encoder(manifest.features)
    for row in golden.from_bytes((fraud_bundle / bundle.GOLDEN).read_bytes()):
        encoder.encode_record(row.record)
        assert encoder.row.tolist() == list(row.record.values())


def test_a_runtime_that_is_not_right_is_told_in_one_line(
    small_recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr(runtime, "load", lambda: runtime.check_version("1.26.0"))
    assert run(monkeypatch, small_recipe, "--out", tmp_path / "models") == 1
    assert "ONNX Runtime 1.26.0 is not known" in capsys.readouterr().err.splitlines()[-1]
    assert not list(tmp_path.iterdir())
