"""Pushes: races, refusals, other people's commits; all on real repositories."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gitops.release import Release

ROOT = Path(__file__).parents[2]


def start(clone: Any, *arguments: str) -> "subprocess.Popen[str]":
    """Start the command in a process of its own, by a user called as the clone is."""
    return subprocess.Popen(
        [sys.executable, "-m", "gitops", *arguments],
        cwd=clone.folder,
        env=os.environ
        | {
            "GIT_AUTHOR_NAME": clone.folder.name,
            "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def hold_pushes(origin: Path, count: int) -> None:
    """Let the remote take no push until so many have begun: then all but one of them have lost the race."""
    waiting = origin / "waiting"
    waiting.mkdir()
    hook = origin / "hooks" / "pre-receive"
    hook.write_text(
        f'#!/bin/sh\ntouch "{waiting}/$$"\n'
        f'for i in $(seq 200); do\n  [ "$(ls "{waiting}" | wc -l)" -ge {count} ] && exit 0\n  sleep 0.05\n'
        "done\nexit 1\n"
    )
    hook.chmod(0o755)


def test_two_racing_promoters_both_get_on(
    origin: Path, new_clone: Callable[[str], Any], release_of: Callable[..., Release]
) -> None:
    first = new_clone("first")
    first.hold("staging", release_of("1.1.0"))
    first.hold("staging", release_of("1.1.0"), model="credit")
    second = new_clone("second")
    before = second.git("rev-parse", "HEAD")
    hold_pushes(origin, 2)
    racers = [start(first, "promote", "fraud"), start(second, "promote", "credit")]
    said = [racer.communicate(timeout=60) for racer in racers]
    assert [racer.returncode for racer in racers] == [0, 0], said
    # Three pushes were made for two commits: one lost the race, and came again on top of the other.
    assert len(list((origin / "waiting").iterdir())) == 3
    second.git("fetch", "-q")
    assert second.git("rev-list", "--count", f"{before}..origin/main") == "2"
    assert second.git("rev-list", "--merges", f"{before}..origin/main") == ""
    for model in ("fraud", "credit"):
        assert second.holds("prod", model, at="origin/main") == "1.1.0-0.1.0"


def test_of_two_who_roll_the_same_release_back_one_is_told(
    origin: Path, new_clone: Callable[[str], Any], release_of: Callable[..., Release]
) -> None:
    first = new_clone("first")
    first.hold("prod", release_of("1.1.0"))
    first.hold("prod", release_of("1.2.0"))
    second = new_clone("second")
    hold_pushes(origin, 2)
    racers = [start(clone, "rollback", "fraud", "--env", "prod") for clone in (first, second)]
    said = [racer.communicate(timeout=60)[1] for racer in racers]
    assert sorted(racer.returncode for racer in racers) == [0, 1]
    assert any("came first" in text and "Roll back fraud in prod" in text for text in said)
    second.git("fetch", "-q")
    # One step, not two.
    assert second.holds("prod", at="origin/main") == "1.1.0-0.1.0"


def test_a_push_that_the_remote_forbids_changes_nothing(
    origin: Path, clone: Any, release_of: Callable[..., Release], capsys: Any
) -> None:
    clone.hold("staging", release_of("1.1.0"))
    hook = origin / "hooks" / "pre-receive"
    hook.write_text("#!/bin/sh\necho main is protected >&2\nexit 1\n")
    hook.chmod(0o755)
    before = clone.git("rev-parse", "HEAD")
    assert clone.run("promote", "fraud") == 1
    error = capsys.readouterr().err
    assert "main is protected" in error
    assert "open a pull request" in error
    assert clone.git("rev-parse", "HEAD") == before
    assert clone.git("status", "--porcelain") == ""


def test_a_push_whose_answer_is_lost_counts(
    clone: Any, release_of: Callable[..., Release], tmp_path: Path
) -> None:
    clone.hold("staging", release_of("1.1.0"))
    receive = tmp_path / "receive-pack"
    receive.write_text('#!/bin/sh\ngit receive-pack "$@"\nexit 1\n')
    receive.chmod(0o755)
    clone.git("config", "remote.origin.receivepack", str(receive))
    assert clone.run("promote", "fraud") == 0
    clone.git("fetch", "-q")
    assert clone.holds("prod", at="origin/main") == "1.1.0-0.1.0"
    assert clone.git("rev-list", "--count", "origin/main") == "3"


def test_own_commits_are_neither_pushed_nor_lost(
    clone: Any, release_of: Callable[..., Release], capsys: Any
) -> None:
    clone.hold("staging", release_of("1.1.0"))
    clone.write("README.md", "Not ready\n")
    mine = clone.commit("Not ready to be seen")
    assert clone.run("promote", "fraud") == 0
    assert "`git pull --rebase`" in capsys.readouterr().err
    assert clone.git("rev-parse", "HEAD") == mine
    clone.git("fetch", "-q")
    assert clone.holds("prod", at="origin/main") == "1.1.0-0.1.0"
    assert clone.git("show", "origin/main:README.md") == "Ours"


def test_a_branch_that_is_behind_comes_along(
    clone: Any, new_clone: Callable[[str], Any], release_of: Callable[..., Release]
) -> None:
    clone.hold("staging", release_of("1.1.0"))
    other = new_clone("other")
    other.write("README.md", "Newer\n")
    other.commit("Newer")
    other.git("push", "-q")
    clone.write("mine.txt", "mine\n")
    clone.git("add", "mine.txt")
    assert clone.run("promote", "fraud") == 0
    assert (clone.folder / "README.md").read_text() == "Newer\n"
    assert clone.git("status", "--porcelain") == "A  mine.txt"
    assert clone.git("rev-parse", "HEAD") == clone.git("rev-parse", "origin/main")


def test_a_detached_head_needs_a_branch_by_name(
    clone: Any, release_of: Callable[..., Release], capsys: Any
) -> None:
    clone.hold("staging", release_of("1.1.0"))
    clone.git("switch", "-q", "--detach")
    assert clone.run("promote", "fraud") == 1
    assert "name it with --branch" in capsys.readouterr().err
    assert clone.run("promote", "fraud", "--branch", "main") == 0
    clone.git("fetch", "-q")
    assert clone.holds("prod", at="origin/main") == "1.1.0-0.1.0"


def test_a_clone_without_the_remote_is_told_the_way_out(clone: Any, capsys: Any) -> None:
    clone.git("remote", "remove", "origin")
    assert clone.run("promote", "fraud") == 1
    error = capsys.readouterr().err
    assert "main cannot be fetched from origin" in error
    assert "--no-push" in error


def test_in_a_hook_the_users_repository_is_meant(
    clone: Any, release_of: Callable[..., Release], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    clone.hold("staging", release_of("1.1.0"))
    with monkeypatch.context() as patch:
        patch.setenv("GIT_DIR", str(tmp_path / "elsewhere"))
        patch.setenv("GIT_INDEX_FILE", str(tmp_path / "index"))
        assert clone.run("promote", "fraud") == 0
    assert clone.holds("prod") == "1.1.0-0.1.0"
