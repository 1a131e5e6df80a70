"""Files that are followed."""

import logging
import os
from pathlib import Path

import pytest

from server.followed import Followed


def _follow(*files: Path) -> Followed[str]:
    def read() -> str:
        text = "".join(file.read_text() for file in files)
        if "bad" in text:
            raise ValueError("it is bad")
        return text

    return Followed("text", files, read)


def test_what_is_new_is_taken_when_two_looks_have_seen_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    file = tmp_path / "file"
    file.write_text("one")
    followed = _follow(file)
    followed.look()
    file.write_text("twos")
    followed.look()
    assert followed.value == "one"
    followed.look()
    assert followed.value == "twos"
    assert [record.getMessage() for record in caplog.records] == ["took the new text"]


def test_of_two_files_the_first_is_not_taken_without_the_second(tmp_path: Path) -> None:
    files = tmp_path / "a", tmp_path / "b"
    for file in files:
        file.write_text("1")
    followed = _follow(*files)
    files[0].write_text("22")
    followed.look()
    files[1].write_text("22")
    followed.look()
    assert followed.value == "11"
    followed.look()
    assert followed.value == "2222"


@pytest.mark.parametrize("damage", ["bad", None], ids=["bad", "gone"])
def test_what_is_bad_is_refused_once_and_mended_later(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, damage: str | None
) -> None:
    file = tmp_path / "file"
    file.write_text("one")
    followed = _follow(file)
    if damage:
        file.write_text(damage * 2)
    else:
        file.unlink()
    for _ in range(5):
        followed.look()
    assert followed.value == "one"
    assert len(caplog.records) == 1
    assert caplog.records[0].getMessage().startswith("refused: the new text: ")
    file.write_text("three")
    followed.look()
    followed.look()
    assert followed.value == "three"


def test_a_link_that_is_swapped_is_seen_though_it_names_the_same_file(tmp_path: Path) -> None:
    # As a volume of a Secret in Kubernetes: file -> ..data/file, ..data -> a folder of one version.
    for version in ("1", "2"):
        (tmp_path / version).mkdir()
        (tmp_path / version / "file").write_text(version)
        os.utime(tmp_path / version / "file", ns=(0, 0))
    (tmp_path / "..data").symlink_to("1")
    (tmp_path / "file").symlink_to("..data/file")
    followed = _follow(tmp_path / "file")
    (tmp_path / "..new").symlink_to("2")
    (tmp_path / "..new").rename(tmp_path / "..data")
    followed.look()
    followed.look()
    assert followed.value == "2"
