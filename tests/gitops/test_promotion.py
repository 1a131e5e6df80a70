import shutil
from collections.abc import Callable
from typing import Any

import pytest

from gitops.layout import release_file
from gitops.release import Release

STAGING = str(release_file("staging", "fraud"))
PROD = str(release_file("prod", "fraud"))


@pytest.fixture
def staged(clone: Any, release_of: Callable[..., Release]) -> Any:
    """Return a clone whose staging is one release ahead."""
    clone.hold("staging", release_of("1.1.0"))
    return clone


def test_a_promotion_is_the_commit_that_a_hand_makes(staged: Any, new_clone: Callable[[str], Any]) -> None:
    hand = new_clone("hand")
    shutil.copy(hand.folder / STAGING, hand.folder / PROD)
    hand.commit("Promote by hand")
    assert staged.run("promote", "fraud") == 0
    # The same trees: every byte and mode of every file.
    assert staged.git("rev-parse", "HEAD^{tree}") == hand.git("rev-parse", "HEAD^{tree}")
    assert staged.git("show", "--format=", "--name-only", "HEAD") == PROD
    assert staged.git("ls-remote", "origin", "main").split()[0] == staged.git("rev-parse", "HEAD")


def test_uncommitted_changes_elsewhere_stay_as_they_are(staged: Any) -> None:
    staged.write("README.md", "Staged\n")
    staged.write("new.txt", "staged and new\n")
    staged.git("add", "README.md", "new.txt")
    staged.write("README.md", "Staged, then changed again\n")
    staged.write("untracked.txt", "not tracked\n")
    staged.write("kustomize/base/deployment.yaml", "broken: [\n")
    before = staged.git("status", "--porcelain"), staged.git("diff"), staged.git("diff", "--cached")
    assert staged.run("promote", "fraud") == 0
    after = staged.git("status", "--porcelain"), staged.git("diff"), staged.git("diff", "--cached")
    assert after == before
    assert staged.holds("prod") == "1.1.0-0.1.0"
    assert staged.git("show", "--format=", "--name-only", "HEAD") == PROD
    assert len(staged.git("worktree", "list").splitlines()) == 1


def test_what_is_not_committed_is_not_promoted(
    clone: Any, release_of: Callable[..., Release], capsys: Any
) -> None:
    clone.write(STAGING, release_of("1.1.0").to_bytes())
    assert clone.run("promote", "fraud") == 1
    assert f"{STAGING} has changes that are not committed (M)" in capsys.readouterr().err
    assert clone.holds("prod") == "1.0.0-0.1.0"


def test_a_stale_clone_is_told_what_moved(
    staged: Any, new_clone: Callable[[str], Any], release_of: Callable[..., Release], capsys: Any
) -> None:
    other = new_clone("other")
    other.hold("staging", release_of("1.2.0"))
    assert staged.run("promote", "fraud") == 1
    error = capsys.readouterr().err
    assert f"{STAGING} is not the same here as on origin's branch" in error
    assert "by Ada, staging fraud 1.2.0-0.1.0" in error
    assert "`git pull`" in error
    staged.git("pull", "-q")
    assert staged.run("promote", "fraud") == 0
    assert staged.holds("prod") == "1.2.0-0.1.0"


def test_again_is_nothing_to_do(staged: Any, capsys: Any) -> None:
    staged.run("promote", "fraud")
    head = staged.git("rev-parse", "HEAD")
    assert staged.run("promote", "fraud") == 0
    assert staged.git("rev-parse", "HEAD") == head
    assert "prod holds fraud 1.1.0-0.1.0 already: nothing to do" in capsys.readouterr().out


def test_a_model_that_staging_does_not_hold_is_refused(clone: Any, capsys: Any) -> None:
    assert clone.run("promote", "churn") == 1
    assert "staging holds no release of churn" in capsys.readouterr().err


def test_a_broken_release_file_is_refused(clone: Any, capsys: Any) -> None:
    clone.write(STAGING, (clone.folder / STAGING).read_text().replace('"1.0.0-0.1.0"', '"latest"'))
    clone.commit("By hand")
    clone.git("push", "-q")
    assert clone.run("promote", "fraud") == 1
    assert "is not as forest-gitops writes it" in capsys.readouterr().err


@pytest.mark.usefixtures("needs_kustomize")
def test_a_dry_run_shows_the_rendered_change_and_makes_none(staged: Any, capsys: Any) -> None:
    before = staged.git("rev-parse", "HEAD"), staged.git("ls-remote", "origin")
    assert staged.run("promote", "fraud", "--dry-run") == 0
    changed = [line for line in capsys.readouterr().out.splitlines() if line.startswith(("+", "-"))]
    assert [line.split(":", 1)[0] for line in changed[2:]] == [
        "-          value", "+          value", "-        image", "+        image",
    ]  # fmt: skip
    assert changed[-1].endswith(f"forest/fraud:1.1.0-0.1.0@sha256:{'110010':0<64}")
    assert (staged.git("rev-parse", "HEAD"), staged.git("ls-remote", "origin")) == before
    assert staged.git("status", "--porcelain") == ""


def test_a_release_that_was_taken_back_is_named(staged: Any, capsys: Any) -> None:
    staged.run("promote", "fraud")
    staged.run("rollback", "fraud", "--env", "prod")
    capsys.readouterr()
    by = staged.git("rev-parse", "HEAD")[:12]
    assert staged.run("promote", "fraud") == 0
    assert f"1.1.0-0.1.0 was in prod before, and {by} took it back" in capsys.readouterr().err
