"""Which bundles are found in a models folder, which is the default, and what is refused."""

import json
import logging
import os
import shutil
import weakref
from collections.abc import Callable
from pathlib import Path

import pytest

from model_bundle import digest
from server.call import Call
from server.models import MODEL, Models
from server.status import Code, StatusError
from server.store import Store


def _load(folder: Path) -> Models:
    models = Models(folder)
    models.load()
    return models


def _found(models: Models) -> list[tuple[str, str, bool]]:
    return [(model.name, model.version, model.bundle is not None) for model in models.found]


def _not_found(models: Models, name: str, version: str = "") -> str:
    with pytest.raises(StatusError) as caught:
        models.find(name, version)
    assert caught.value.code is Code.NOT_FOUND
    return caught.value.message


def test_models_are_listed_by_name_and_then_by_descending_version(
    tmp_path: Path, write_mixed: Callable[..., Path]
) -> None:
    for model, version in [
        ("mixed", "1.9.0"),
        ("mixed", "1.10.0"),
        ("mixed", "0.0.1"),
        ("another", "2.0.0"),
        ("mixed-b", "1.0.0"),
    ]:
        write_mixed(tmp_path, model=model, version=version)
    models = _load(tmp_path)
    assert _found(models) == [
        ("another", "2.0.0", True),
        ("mixed", "1.10.0", True),
        ("mixed", "1.9.0", True),
        ("mixed", "0.0.1", True),
        ("mixed-b", "1.0.0", True),
    ]
    assert models.find("mixed", "").version == "1.10.0"
    assert models.find("mixed", "1.9.0").version == "1.9.0"
    assert [model.version for model in models.found if models.is_default(model)] == [
        "2.0.0",
        "1.10.0",
        "1.0.0",
    ]
    assert models.names() == {"another": True, "mixed": True, "mixed-b": True}


def test_a_model_is_told_with_the_time_beside_it(
    tmp_path: Path, write_mixed: Callable[..., Path], caplog: pytest.LogCaptureFixture
) -> None:
    write_mixed(tmp_path, version="1.1.0")
    os.utime(write_mixed(tmp_path) / "manifest.json", (0, 0))
    os.utime(write_mixed(tmp_path, version="1.2.0") / "manifest.json", (1e9, 1e9))
    (tmp_path / "mixed" / "1.1.0.created").write_text("2020-02-03T04:05:06Z\n")
    store = Store()
    models = Models(tmp_path, store=store)
    models.load()
    assert [model.refusal for model in models.found] == ["", "", ""]
    told = [dict(labels) for name, labels in store.read() if name == MODEL]
    assert {each["version"]: each["created"] for each in told} == {
        "1.0.0": "",
        "1.1.0": "1580702706",
        "1.2.0": "1000000000",
    }
    assert not caplog.records


def test_what_is_no_model_and_version_is_left_alone(
    tmp_path: Path, write_mixed: Callable[..., Path], caplog: pytest.LogCaptureFixture
) -> None:
    folder = write_mixed(tmp_path)
    for stray in ("README.md", "mixed/notes.txt"):
        (tmp_path / stray).write_text("stray")
    hidden = ["mixed/.1.1.0-half", ".git/1.0.0"]
    odd = ["mixed/latest", "mixed/v2.0.0", "mixed/1.0", "mixed/1.0.0-rc1", "mixed/01.0.0", "mixed/1٣.0.0"]
    odd += ["Mixed/1.0.0", "lost+found/1.0.0", "4ever/1.0.0"]
    for name in hidden + odd:
        shutil.copytree(folder, tmp_path / name)
    (tmp_path / "empty").mkdir()
    models = _load(tmp_path)
    assert _found(models) == [("mixed", "1.0.0", True)]
    warned = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert len(warned) == len(odd)
    assert all("left alone" in message for message in warned)


def test_a_link_to_a_bundle_is_followed(tmp_path: Path, write_mixed: Callable[..., Path]) -> None:
    write_mixed(tmp_path / "elsewhere")
    (tmp_path / "models").mkdir()
    (tmp_path / "models/mixed").symlink_to(tmp_path / "elsewhere/mixed")
    assert _found(_load(tmp_path / "models")) == [("mixed", "1.0.0", True)]


@pytest.mark.parametrize("present", [False, True])
def test_an_empty_or_missing_folder_has_no_models_and_says_so(
    tmp_path: Path, present: bool, caplog: pytest.LogCaptureFixture
) -> None:
    if present:
        (tmp_path / "models").mkdir()
    models = _load(tmp_path / "models")
    assert models.found == []
    assert models.names() == {}
    assert "no bundle in" in caplog.text
    assert _not_found(models, "mixed") == "no model 'mixed' here, but: none at all"


def test_the_highest_version_is_the_default_even_if_it_is_refused(
    tmp_path: Path, write_mixed: Callable[..., Path]
) -> None:
    write_mixed(tmp_path, version="1.0.0")
    (write_mixed(tmp_path, version="1.1.0") / "model.onnx").write_bytes(b"")
    models = _load(tmp_path)
    assert models.find("mixed", "") is models.find("mixed", "1.1.0")
    assert models.find("mixed", "").refusal
    assert models.find("mixed", "1.0.0").bundle is not None
    assert models.names() == {"mixed": False}


def _set(folder: Path, place: str, value: object) -> None:
    path = folder / "manifest.json"
    document = json.loads(path.read_bytes())
    document[place] = value
    path.write_text(json.dumps(document))


def _replace(folder: Path, name: str, data: bytes) -> None:
    """Replace a file, and have the manifest agree."""
    (folder / name).write_bytes(data)
    files = json.loads((folder / "manifest.json").read_bytes())["files"]
    _set(folder, "files", files | {name: digest.of_bytes(data)})


_REFUSED: dict[str, tuple[Callable[[Path], object], str]] = {
    "no manifest": (lambda f: (f / "manifest.json").unlink(), "manifest.json: No such file"),
    "manifest is a folder": (
        lambda f: ((f / "manifest.json").unlink(), (f / "manifest.json").mkdir()),
        "manifest.json: Is a directory",
    ),
    "manifest is no JSON": (lambda f: (f / "manifest.json").write_bytes(b"{"), "manifest.json: not JSON"),
    "manifest is no text": (lambda f: (f / "manifest.json").write_bytes(b"\xff\xfe\x00"), "manifest.json: "),
    "manifest is deep": (lambda f: (f / "manifest.json").write_bytes(b"[" * 200_000), "RecursionError"),
    "manifest of a later schema": (lambda f: _set(f, "schema_version", 2), "schema_version: 2 is not 1"),
    "another model's manifest": (lambda f: _set(f, "model", "fraud"), "manifest.json is of fraud 1.0.0, but"),
    "another version's manifest": (
        lambda f: _set(f, "version", "1.0.1"),
        "is of mixed 1.0.1, but the folder",
    ),
    "a number beyond floats": (lambda f: _set(f, "threshold", 10**400), "OverflowError"),
    "tampered graph": (lambda f: (f / "model.onnx").write_bytes(b"x"), "model.onnx: its digest is sha256:"),
    "missing card": (lambda f: (f / "model_card.html").unlink(), "model_card.html: No such file"),
    "unlisted graph": (lambda f: _set(f, "files", {}), "files: lacks golden.jsonl"),
    "a graph that is none": (lambda f: _replace(f, "model.onnx", b"x"), "model.onnx: ONNX Runtime: "),
    "an empty graph": (lambda f: _replace(f, "model.onnx", b""), "model.onnx: ONNX Runtime: "),
    "no golden rows": (lambda f: _replace(f, "golden.jsonl", b""), "golden.jsonl: there are no golden rows"),
    "golden rows that are none": (lambda f: _replace(f, "golden.jsonl", b"[1]\n"), "golden.jsonl: line 1"),
    "a golden number beyond floats": (
        lambda f: _replace(
            f,
            "golden.jsonl",
            b'{"kind": "x", "record": {"balance": 1%s}, "probability": 0, "label": "no"}' % (b"0" * 400),
        ),
        "golden row 1 (x) is refused: ",
    ),
    "a golden row of other features": (
        lambda f: _replace(
            f, "golden.jsonl", b'{"kind": "x", "record": {"height": 1.0}, "probability": 0.5, "label": "no"}'
        ),
        "golden row 1 (x) is refused: height: the model has no such feature",
    ),
    "a golden row that scores otherwise": (
        lambda f: _replace(
            f,
            "golden.jsonl",
            (f / "golden.jsonl").read_bytes().replace(b'"probability": 0.', b'"probability": 0.0'),
        ),
        "but the trained forest gave",
    ),
    "a golden row of another label": (lambda f: _set(f, "labels", ["no", "ja"]), "label ja, but"),
    "another order of features": (
        lambda f: _set(f, "features", json.loads((f / "manifest.json").read_bytes())["features"][::-1]),
        "golden.jsonl: golden row 1 (ordinary): probability ",
    ),
    "a graph of other columns": (
        lambda f: _set(f, "graph", {"input": "X", "output": "scores", "columns": 3, "column": 1}),
        "golden.jsonl: ONNX Runtime: ",
    ),
    "a graph of another input": (
        lambda f: _set(f, "graph", {"input": "Y", "output": "scores", "columns": 2, "column": 1}),
        "golden.jsonl: ONNX Runtime: ",
    ),
    "a feature less": (
        lambda f: _set(f, "features", json.loads((f / "manifest.json").read_bytes())["features"][:4]),
        "golden.jsonl: golden row 1",
    ),
}


@pytest.mark.parametrize("fault", _REFUSED)
def test_a_bundle_that_fails_a_check_is_refused_and_the_reason_logged(
    tmp_path: Path, write_mixed: Callable[..., Path], caplog: pytest.LogCaptureFixture, fault: str
) -> None:
    damage, reason = _REFUSED[fault]
    damage(write_mixed(tmp_path))
    write_mixed(tmp_path, model="sound")
    models = _load(tmp_path)
    assert _found(models) == [("mixed", "1.0.0", False), ("sound", "1.0.0", True)]
    refused = models.find("mixed", "")
    assert reason in refused.refusal
    assert models.names() == {"mixed": False, "sound": True}
    assert f"refused mixed 1.0.0: {refused.refusal}" in caplog.text


def test_what_is_not_found_is_told_with_what_is_here(
    tmp_path: Path, write_mixed: Callable[..., Path]
) -> None:
    for version in ("1.0.0", "1.1.0"):
        write_mixed(tmp_path, version=version)
    models = _load(tmp_path)
    assert _not_found(models, "mixt") == "no model 'mixt' here, but: mixed"
    assert _not_found(models, "") == "the request names no model; here are: mixed"
    assert (
        _not_found(models, "mixed", "2.0.0") == "model 'mixed' has no version '2.0.0' here, but 1.1.0, 1.0.0"
    )
    assert len(_not_found(models, "x" * 100_000, "y" * 100_000)) < 200


def test_closed_models_are_unavailable(tmp_path: Path, write_mixed: Callable[..., Path]) -> None:
    write_mixed(tmp_path)
    models = _load(tmp_path)
    models.close()
    for name in ("mixed", "another"):
        with pytest.raises(StatusError) as caught:
            models.find(name, "")
        assert caught.value.code is Code.UNAVAILABLE


def _digest(folder: Path) -> str:
    return digest.of_file(folder / "manifest.json")


def test_a_pinned_bundle_is_served_and_older_versions_beside_it(
    tmp_path: Path, write_mixed: Callable[..., Path]
) -> None:
    write_mixed(tmp_path, version="1.0.0")
    pinned = _digest(write_mixed(tmp_path, version="1.1.0"))
    models = Models(tmp_path, pinned)
    models.load()
    assert _found(models) == [("mixed", "1.1.0", True), ("mixed", "1.0.0", True)]
    assert models.find("mixed", "").digest == pinned
    assert models.names() == {"mixed": True}


def test_a_default_that_is_not_the_pinned_bundle_is_refused_with_both_digests(
    tmp_path: Path, write_mixed: Callable[..., Path], caplog: pytest.LogCaptureFixture
) -> None:
    pinned = _digest(write_mixed(tmp_path, version="1.0.0"))
    found = _digest(write_mixed(tmp_path, version="1.1.0"))
    models = Models(tmp_path, pinned)
    models.load()
    # The pinned one is there, but requests without a version do not go to it.
    assert _found(models) == [("mixed", "1.1.0", False), ("mixed", "1.0.0", True)]
    reason = f"its digest is {found}, but only {pinned} may be served here"
    assert models.find("mixed", "").refusal == reason
    assert f"refused mixed 1.1.0: {reason}" in caplog.text
    assert models.names() == {"mixed": False}


def test_a_second_model_beside_the_pinned_bundle_is_refused(
    tmp_path: Path, write_mixed: Callable[..., Path]
) -> None:
    pinned = _digest(write_mixed(tmp_path))
    write_mixed(tmp_path, model="another")
    models = Models(tmp_path, pinned)
    models.load()
    assert models.names() == {"another": False, "mixed": True}


def test_a_pin_does_not_hide_why_a_manifest_is_refused(
    tmp_path: Path, write_mixed: Callable[..., Path]
) -> None:
    (write_mixed(tmp_path) / "manifest.json").write_bytes(b"{")
    models = Models(tmp_path, "sha256:" + 64 * "0")
    models.load()
    assert models.find("mixed", "").refusal.startswith("manifest.json: ")


def _follow(models: Models) -> bool:
    """Look twice: the first look only sees what is there, the second that nobody is writing it."""
    first = models.follow()
    return models.follow() or first


@pytest.fixture
def followed(tmp_path: Path, write_mixed: Callable[..., Path]) -> Models:
    write_mixed(tmp_path, version="1.0.0")
    models = Models(tmp_path, followed=True)
    models.load()
    return models


def test_a_new_version_is_served_once_it_has_passed(
    followed: Models, write_mixed: Callable[..., Path], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    before = followed.find("mixed", "")
    assert not _follow(followed)
    assert followed.find("mixed", "") is before
    write_mixed(followed.folder, version="1.1.0")
    assert not followed.follow()
    assert followed.find("mixed", "") is before
    assert followed.follow()
    assert followed.find("mixed", "").version == "1.1.0"
    assert followed.find("mixed", "1.0.0") is before
    assert "mixed is now answered by 1.1.0, no longer by 1.0.0" in caplog.text
    assert not _follow(followed)


def test_an_older_version_that_is_new_here_is_served_beside_the_newest(
    followed: Models, write_mixed: Callable[..., Path]
) -> None:
    write_mixed(followed.folder, version="0.9.0")
    assert _follow(followed)
    assert [model.version for model in followed.found] == ["1.0.0", "0.9.0"]
    assert followed.find("mixed", "").version == "1.0.0"


def test_a_new_version_that_fails_a_check_leaves_the_old_one_in_its_place(
    followed: Models, write_mixed: Callable[..., Path], caplog: pytest.LogCaptureFixture
) -> None:
    folder = write_mixed(followed.folder, version="1.1.0")
    graph = (folder / "model.onnx").read_bytes()
    (folder / "model.onnx").write_bytes(graph[:-1])
    assert _follow(followed)
    assert followed.find("mixed", "").version == "1.0.0"
    assert followed.names() == {"mixed": True}
    assert "model.onnx: its digest is" in followed.find("mixed", "1.1.0").refusal
    assert "refused mixed 1.1.0" in caplog.text
    caplog.clear()
    assert not _follow(followed)
    assert not caplog.text
    # Mended, it is taken.
    (folder / "model.onnx").write_bytes(graph)
    assert _follow(followed)
    assert followed.find("mixed", "").version == "1.1.0"


def test_a_bundle_that_is_still_being_written_is_waited_for(
    followed: Models, write_mixed: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory
) -> None:
    whole = write_mixed(tmp_path_factory.mktemp("whole"), version="1.1.0")
    folder = followed.folder / "mixed/1.1.0"
    folder.mkdir()
    for file in sorted(whole.iterdir()):
        shutil.copy(file, folder)
        assert not followed.follow()
    assert followed.follow()
    assert followed.find("mixed", "").version == "1.1.0"


def test_a_version_that_goes_is_dropped_and_the_highest_left_answers(
    followed: Models, write_mixed: Callable[..., Path]
) -> None:
    folder = write_mixed(followed.folder, version="1.1.0")
    assert _follow(followed)
    held = followed.find("mixed", "")
    shutil.rmtree(folder)
    assert _follow(followed)
    assert followed.find("mixed", "").version == "1.0.0"
    assert _not_found(followed, "mixed", "1.1.0")
    # Whoever had it in hand finishes on it.
    assert held.bundle
    assert 0 <= held.bundle.session.score_row() <= 1


def test_what_a_version_decided_last_is_counted_though_it_goes(
    followed: Models, write_mixed: Callable[..., Path], call: Call
) -> None:
    folder = write_mixed(followed.folder, version="1.1.0")
    assert _follow(followed)
    held = followed.find("mixed", "")
    assert held.bundle
    held.decisions.row(call, held.bundle.encoder.row, 0.5)
    shutil.rmtree(folder)
    assert _follow(followed)
    assert held.decisions._rows[0] == 1


def test_the_last_version_is_served_on_when_its_folder_goes(
    followed: Models, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "mixed").rename(tmp_path / ".aside")
    assert not _follow(followed)
    assert followed.find("mixed", "").version == "1.0.0"
    assert caplog.text.count("has gone, but is served on") == 1
    (tmp_path / ".aside").rename(tmp_path / "mixed")
    assert not _follow(followed)
    assert followed.names() == {"mixed": True}


def test_a_served_version_is_not_changed_in_its_place(
    followed: Models, caplog: pytest.LogCaptureFixture
) -> None:
    served = followed.find("mixed", "")
    (served.folder / "model.onnx").write_bytes(b"other")
    assert not _follow(followed)
    assert not _follow(followed)
    assert followed.find("mixed", "") is served
    assert caplog.text.count("A version never changes") == 1


def test_a_new_model_is_served_too(followed: Models, write_mixed: Callable[..., Path]) -> None:
    write_mixed(followed.folder, model="another")
    assert _follow(followed)
    assert followed.names() == {"another": True, "mixed": True}


def test_a_followed_folder_that_starts_with_a_bad_version_serves_the_highest_good_one(
    tmp_path: Path, write_mixed: Callable[..., Path]
) -> None:
    write_mixed(tmp_path, version="1.0.0")
    (write_mixed(tmp_path, version="1.1.0") / "model.onnx").write_bytes(b"")
    models = Models(tmp_path, followed=True)
    models.load()
    assert models.find("mixed", "").version == "1.0.0"
    assert models.names() == {"mixed": True}


def test_a_session_that_nobody_has_gives_its_memory_back(
    followed: Models, write_mixed: Callable[..., Path]
) -> None:
    folder = write_mixed(followed.folder, version="1.1.0")
    assert _follow(followed)
    bundle = followed.find("mixed", "1.1.0").bundle
    assert bundle
    released = weakref.ref(bundle.session)
    del bundle
    shutil.rmtree(folder)
    assert _follow(followed)
    assert released() is None
