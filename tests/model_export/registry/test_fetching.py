"""A bundle comes back as it was registered, or not at all."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from model_bundle import bundle, created, digest
from model_export.__main__ import main
from model_export.registry.connection import connect
from model_export.registry.run import CREATED, DIGEST

Command = Callable[..., Any]
# 2020-02-03T04:05:06Z
_MADE = 1_580_702_706


@pytest.fixture
def made(begun: None, forest_export: Command, bundle_of: Callable[..., Path]) -> Path:
    """Return a bundle that is tracked, and approved for production."""
    folder = bundle_of()
    os.utime(folder / "manifest.json", (_MADE, _MADE))
    run = forest_export("track", folder).run
    forest_export("promote", "--run-id", run, "--to", "production")
    return folder


@pytest.fixture
def logged(made: Path, place: Path) -> Path:
    """Return the folder where the registry has the bundle."""
    (folder,) = (place / "mlruns" / "artifacts" / "fraud").glob("*/artifacts/bundle")
    return folder


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_it_comes_back_the_same_and_is_proved(forest_export: Command, made: Path, place: Path) -> None:
    told = forest_export("fetch", "fraud@production", "--out", "back")
    assert (told.status, told.err) == (0, "")
    assert told.out == (
        f"back/fraud/1.0.0\ndigest     {digest.of_file(made / 'manifest.json')}\n"
        f"created    {created.to_text(_MADE)}\n"
    )
    # Whatever is made of it tells the same age.
    assert (place / "back/fraud/1.0.0/manifest.json").stat().st_mtime == _MADE
    assert files(place / "back") == {f"fraud/1.0.0/{name}": data for name, data in files(made).items()}
    bundle.load(place / "back" / "fraud" / "1.0.0").session.close()


@pytest.mark.usefixtures("made")
@pytest.mark.parametrize("noted", [None, "soon", "2999-01-01T00:00:00Z"])
def test_a_bundle_of_which_no_good_time_is_noted_was_made_when_it_was_registered(
    forest_export: Command, place: Path, noted: str | None
) -> None:
    client = connect(None).client
    if noted is None:
        client.delete_model_version_tag("fraud", "1", CREATED)
    else:
        client.set_model_version_tag("fraud", "1", CREATED, noted)
    registered = client.get_model_version("fraud", "1").creation_timestamp // 1000
    assert forest_export("fetch", "fraud@production", "--out", "back").status == 0
    assert (place / "back/fraud/1.0.0/manifest.json").stat().st_mtime == registered


def test_what_is_there_already_is_proved_and_left(forest_export: Command, made: Path) -> None:
    told = forest_export("fetch", "fraud@production")
    assert told.status == 0
    assert told.out.splitlines()[0] == "models/fraud/1.0.0"
    assert "models/fraud/1.0.0 is there already, and whole: nothing to do" in told.err
    (made / "model.onnx").write_bytes(b"broken")
    told = forest_export("fetch", "fraud@production")
    assert told.status == 1
    assert "the bundle does not load: model.onnx: its digest is" in told.err


def test_another_bundle_of_that_version_is_not_overwritten(
    forest_export: Command, made: Path, bundle_of: Callable[..., Path]
) -> None:
    other = bundle_of(models="others", remark=" Anew.")
    before = files(other)
    told = forest_export("fetch", "fraud@production", "--out", "others")
    assert told.status == 1
    assert (
        f"others/fraud/1.0.0 is there, with the bundle {digest.of_file(other / 'manifest.json')}" in told.err
    )
    assert f"but registered is {digest.of_file(made / 'manifest.json')}" in told.err
    assert files(other) == before


def _new_threshold(folder: Path) -> None:
    manifest = json.loads((folder / "manifest.json").read_bytes())
    manifest["threshold"] = 0.99
    (folder / "manifest.json").write_text(json.dumps(manifest))


def _forged(folder: Path) -> None:
    """Change golden rows, and the manifest with them."""
    golden = (folder / "golden.jsonl").read_bytes().splitlines(keepends=True)[:1]
    (folder / "golden.jsonl").write_bytes(golden[0])
    manifest = json.loads((folder / "manifest.json").read_bytes())
    manifest["files"]["golden.jsonl"] = digest.of_file(folder / "golden.jsonl")
    (folder / "manifest.json").write_text(json.dumps(manifest))


@pytest.mark.parametrize(
    ("tamper", "said"),
    [
        (lambda folder: (folder / "model.onnx").write_bytes(b"another"), "model.onnx: its digest is sha256:"),
        (
            lambda folder: (folder / "model_card.html").write_text("better"),
            "model_card.html: its digest is sha256:",
        ),
        (_new_threshold, "manifest.json has the digest sha256:"),
        (_forged, "manifest.json has the digest sha256:"),
        (
            lambda folder: (folder / "manifest.json").write_bytes(b"{}"),
            "manifest.json has the digest sha256:",
        ),
    ],
)
def test_what_was_changed_is_refused_and_nothing_written(
    forest_export: Command, logged: Path, place: Path, tamper: Callable[[Path], Any], said: str
) -> None:
    tamper(logged)
    told = forest_export("fetch", "fraud@production", "--out", "back")
    assert told.status == 1
    assert "fraud 1.0.0 in MLflow at sqlite:///mlruns/mlflow.db is not what was registered: " in told.err
    assert said in told.err
    assert "Nothing was written. To mend it, delete version 1 of fraud in MLflow" in told.err
    assert "(`forest-export track …/fraud/1.0.0`)" in told.err
    assert not (place / "back").exists()


def test_what_was_changed_is_mended_as_the_message_says(
    forest_export: Command, logged: Path, made: Path
) -> None:
    (logged / "model.onnx").write_bytes(b"another")
    connect(None).client.delete_model_version("fraud", "1")
    assert "no model fraud" in forest_export("fetch", "fraud@production", "--out", "back").err
    run = forest_export("track", made).run
    assert run != logged.parents[1].name
    forest_export("promote", "--run-id", run, "--to", "production")
    assert forest_export("fetch", "fraud@production", "--out", "back").status == 0


def test_a_tag_that_was_changed_with_the_files_is_found_by_the_run(
    forest_export: Command, logged: Path, place: Path
) -> None:
    _forged(logged)
    connect(None).client.set_model_version_tag("fraud", "1", DIGEST, digest.of_file(logged / "manifest.json"))
    told = forest_export("fetch", "fraud@production", "--out", "back")
    assert told.status == 1
    assert f"its run {logged.parents[1].name} logged the bundle sha256:" in told.err
    assert not (place / "back").exists()


def test_even_what_all_agree_on_must_be_a_bundle(forest_export: Command, logged: Path, place: Path) -> None:
    (logged / "manifest.json").write_bytes(b"{}")
    client, run = connect(None).client, logged.parents[1].name
    client.set_model_version_tag("fraud", "1", DIGEST, digest.of_bytes(b"{}"))
    client.set_tag(run, DIGEST, digest.of_bytes(b"{}"))
    told = forest_export("fetch", "fraud@production", "--out", "back")
    assert told.status == 1
    assert "is not what was registered: manifest.json: the document: lacks schema_version" in told.err
    assert not (place / "back").exists()


def test_a_file_that_nobody_registered_is_not_brought(
    forest_export: Command, logged: Path, place: Path
) -> None:
    (logged / "model.pkl").write_bytes(b"\x80\x05.")
    assert forest_export("fetch", "fraud@production", "--out", "back").status == 0
    assert not list(place.glob("back/**/model.pkl"))


def test_a_file_that_is_gone_is_named(forest_export: Command, logged: Path, place: Path) -> None:
    (logged / "golden.jsonl").unlink()
    told = forest_export("fetch", "fraud@production", "--out", "back")
    assert told.status == 1
    assert "golden.jsonl" in told.err
    assert len(told.err.splitlines()) == 1
    assert not (place / "back").exists()


@pytest.mark.usefixtures("made")
def test_an_approval_that_nobody_gave_is_told_with_those_that_are(forest_export: Command) -> None:
    told = forest_export("fetch", "fraud@staging")
    assert told.status == 1
    assert "no version of fraud is approved for staging in MLflow at sqlite:///mlruns/mlflow.db" in told.err
    assert "approved is 1.0.0 for production" in told.err
    assert "`forest-export promote --run-id ID --to staging` approves one" in told.err


@pytest.mark.usefixtures("made")
def test_an_unknown_model_is_told_with_those_that_are(forest_export: Command) -> None:
    told = forest_export("fetch", "frauds@production")
    assert told.status == 1
    assert "has no model frauds: it has fraud. `forest-export frauds --track` begins it" in told.err


@pytest.mark.parametrize(
    "text", ["fraud", "fraud@prod", "@production", "../fraud@production", "Fraud@staging", "fraud@1"]
)
def test_what_names_no_approved_model_is_refused(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["fetch", text])
    assert caught.value.code == 2
    assert "is not MODEL@staging or MODEL@production, as fraud@production" in capsys.readouterr().err


@pytest.mark.usefixtures("made")
def test_a_folder_that_cannot_be_written_to_is_named(forest_export: Command, place: Path) -> None:
    (place / "file").write_text("")
    told = forest_export("fetch", "fraud@production", "--out", "file")
    assert told.status == 2
    assert "file" in told.err
    assert len(told.err.splitlines()) == 1
