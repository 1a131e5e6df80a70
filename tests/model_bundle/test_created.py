"""When a bundle was made: by its manifest's time, or by a file beside it."""

import logging
import os
import time
from pathlib import Path

import pytest

from model_bundle import created
from model_bundle.created import CreatedError

_TIME, _TEXT = 1_795_669_549, "2026-11-26T05:05:49Z"


@pytest.fixture(autouse=True)
def now(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let it be an hour later."""
    monkeypatch.setattr(time, "time", lambda: _TIME + 3600.0)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return the folder of a bundle, of which only the manifest's time matters here."""
    folder = tmp_path / "mixed" / "1.0.0"
    folder.mkdir(parents=True)
    (folder / "manifest.json").write_text("{}")
    os.utime(folder / "manifest.json", (_TIME - 7, _TIME - 7))
    return folder


def test_what_is_written_is_read_again() -> None:
    assert created.to_text(_TIME) == _TEXT
    assert created.from_text(_TEXT) == _TIME


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "'' is no time as 2026-11-26T05:05:49Z is one"),
        ("1795669549", "is no time"),
        ("2026-11-26", "is no time"),
        ("2026-11-26T05:05:49", "is no time"),
        ("2026-11-26T05:05:49+01:00", "is no time"),
        ("2026-13-26T05:05:49Z", "is no time"),
        ("٢026-11-26T05:05:49Z", "is no time"),
        ("1970-01-01T00:00:00Z", "is before 2000"),
        ("2026-11-28T05:05:49Z", "is yet to come"),
    ],
)
def test_what_cannot_be_a_bundles_time_is_refused(text: str, said: str) -> None:
    with pytest.raises(CreatedError) as caught:
        created.from_text(text)
    assert repr(text) in str(caught.value)
    assert said in str(caught.value)


def test_clocks_may_differ() -> None:
    assert created.from_text("2026-11-26T23:05:49Z") == _TIME + 18 * 3600


def test_a_file_beside_the_bundle_tells_before_the_manifests_time_does(folder: Path) -> None:
    assert created.of(folder) == _TIME - 7
    (folder.parent / "1.0.0.created").write_text(f"{_TEXT}\n")
    assert created.of(folder) == _TIME


@pytest.mark.parametrize("seconds", [0, 1, 315_532_800])
def test_a_manifest_without_a_time_tells_nothing_and_that_is_no_fault(
    folder: Path, seconds: int, caplog: pytest.LogCaptureFixture
) -> None:
    os.utime(folder / "manifest.json", (seconds, seconds))
    assert created.of(folder) is None
    (folder / "manifest.json").unlink()
    assert created.of(folder) is None
    assert not caplog.records


@pytest.mark.parametrize("data", [b"", b"yesterday\n", b"\xff\x00" * 50_000, b"2999-01-01T00:00:00Z", None])
def test_a_file_that_tells_no_time_is_ignored_with_one_warning(
    folder: Path, data: bytes | None, caplog: pytest.LogCaptureFixture
) -> None:
    beside = folder.parent / "1.0.0.created"
    if data is None:
        beside.mkdir()
    else:
        beside.write_bytes(data)
    assert created.of(folder) is None
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert record.getMessage().startswith(f"when mixed 1.0.0 was made is not known: {beside}: ")
    assert len(record.getMessage()) < 500


def test_a_manifest_of_the_future_is_ignored_with_one_warning(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    os.utime(folder / "manifest.json", (4e9, 4e9))
    assert created.of(folder) is None
    (record,) = caplog.records
    assert record.getMessage().endswith("manifest.json: its time, 4000000000 s after 1970, is yet to come")
