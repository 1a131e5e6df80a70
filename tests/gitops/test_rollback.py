"""Rollbacks: a stack of releases that is walked down, whoever built it and however."""

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any

import pytest

from gitops.layout import release_file
from gitops.release import Release
from gitops.rendering import render

ROOT = Path(__file__).parents[2]
PROD = str(release_file("prod", "fraud"))


@pytest.fixture
def three(clone: Any, release_of: Callable[..., Release]) -> Any:
    """Return a clone whose prod has seen 1.0.0, 1.1.0 and 1.2.0, beside changes of others."""
    clone.hold("prod", release_of("1.1.0"))
    clone.hold("prod", release_of("1.9.0"), model="credit")
    clone.hold("prod", release_of("1.2.0"))
    clone.hold("staging", release_of("1.3.0"))
    return clone


def back(clone: Any, *more: str) -> int:
    return int(clone.run("rollback", "fraud", "--env", "prod", *more))


def test_it_is_the_revert_that_a_hand_makes(three: Any, new_clone: Callable[[str], Any]) -> None:
    hand = new_clone("hand")
    promotion = hand.git("log", "-1", "--format=%H", "--", PROD)
    hand.git("revert", "--no-edit", promotion)
    assert back(three) == 0
    assert three.git("rev-parse", "HEAD^{tree}") == hand.git("rev-parse", "HEAD^{tree}")
    assert f"This reverts commit {promotion}." in three.git("show", "--no-patch", "--format=%b")
    assert three.git("show", "--format=", "--name-only", "HEAD") == PROD
    assert three.git("ls-remote", "origin", "main").split()[0] == three.git("rev-parse", "HEAD")
    assert three.holds("prod", "credit") == "1.9.0-0.1.0"
    assert three.holds("staging") == "1.3.0-0.1.0"


def test_again_is_one_step_further_and_the_first_is_refused(three: Any, capsys: Any) -> None:
    assert back(three) == 0
    assert three.holds("prod") == "1.1.0-0.1.0"
    assert back(three) == 0
    assert three.holds("prod") == "1.0.0-0.1.0"
    head = three.git("rev-parse", "HEAD")
    assert back(three) == 1
    error = capsys.readouterr().err
    assert "1.0.0-0.1.0 is the first release of fraud in prod" in error
    assert "1.1.0-0.1.0, 1.2.0-0.1.0" in error
    assert three.git("rev-parse", "HEAD") == head


def test_what_was_taken_back_is_not_met_again(three: Any, release_of: Callable[..., Release]) -> None:
    back(three)
    three.hold("prod", release_of("1.4.0"))
    assert back(three) == 0
    assert three.holds("prod") == "1.1.0-0.1.0"
    assert back(three) == 0
    assert three.holds("prod") == "1.0.0-0.1.0"


def test_a_revert_by_hand_counts_and_so_does_its_revert(three: Any) -> None:
    three.git("revert", "--no-edit", three.git("log", "-1", "--format=%H", "--", PROD))
    three.git("push", "-q")
    assert three.holds("prod") == "1.1.0-0.1.0"
    three.git("revert", "--no-edit", "HEAD")
    three.git("push", "-q")
    assert three.holds("prod") == "1.2.0-0.1.0"
    assert back(three) == 0
    assert three.holds("prod") == "1.1.0-0.1.0"
    assert back(three) == 0
    assert three.holds("prod") == "1.0.0-0.1.0"


@pytest.mark.parametrize("how", ["merge", "squash"])
def test_a_promotion_by_pull_request_is_reverted(
    how: str, clone: Any, release_of: Callable[..., Release]
) -> None:
    clone.git("switch", "-q", "-c", "promotion")
    clone.hold("prod", release_of("1.1.0"), push=False)
    clone.git("switch", "-q", "main")
    clone.write("README.md", "Meanwhile\n")
    clone.commit("Meanwhile")
    if how == "merge":
        clone.git("merge", "-q", "--no-ff", "-m", "Merge the promotion", "promotion")
        assert len(clone.git("rev-list", "--parents", "-n1", "HEAD").split()) == 3
    else:
        clone.git("merge", "-q", "--squash", "promotion")
        clone.git("commit", "-q", "-m", "Promote (#12)")
    clone.git("push", "-q")
    promotion = clone.git("rev-parse", "HEAD")
    assert back(clone) == 0
    assert clone.holds("prod") == "1.0.0-0.1.0"
    assert f"This reverts commit {promotion}" in clone.git("show", "--no-patch", "--format=%b")
    assert clone.git("show", "--format=", "--name-only", "HEAD") == PROD
    assert (clone.folder / "README.md").read_text() == "Meanwhile\n"


def test_a_commit_that_did_more_is_taken_back_for_this_file_alone(
    clone: Any, release_of: Callable[..., Release], capsys: Any
) -> None:
    clone.write("README.md", "In the same commit\n")
    clone.hold("prod", release_of("1.1.0"))
    assert back(clone) == 0
    assert clone.holds("prod") == "1.0.0-0.1.0"
    assert (clone.folder / "README.md").read_text() == "In the same commit\n"
    assert "also changed README.md, which stay as they are" in capsys.readouterr().err
    assert clone.git("show", "--format=", "--name-only", "HEAD") == PROD


def test_to_goes_to_any_earlier_release(three: Any, capsys: Any) -> None:
    assert back(three, "--to", "1.0.0") == 0
    assert three.holds("prod") == "1.0.0-0.1.0"
    assert back(three, "--to", "1.2.0-0.1.0") == 0
    assert three.holds("prod") == "1.2.0-0.1.0"
    assert "had been taken back itself" in capsys.readouterr().err
    assert back(three, "--to", "7.0.0") == 1
    assert "prod never held fraud 7.0.0: it held 1.2.0-0.1.0, 1.0.0-0.1.0, 1.1.0-0.1.0" in (
        capsys.readouterr().err
    )
    assert back(three, "--to", "1.2.0") == 0
    assert "already: nothing to do" in capsys.readouterr().out


def test_staging_is_rolled_back_alike(three: Any) -> None:
    assert three.run("rollback", "fraud", "--env", "staging") == 0
    assert three.holds("staging") == "1.0.0-0.1.0"
    assert three.holds("prod") == "1.2.0-0.1.0"


def test_a_file_broken_by_hand_is_taken_back(three: Any) -> None:
    file = three.folder / PROD
    three.write(PROD, file.read_text().replace("digest: sha256:12", "digest: sha256:zz"))
    three.commit("By hand, at night")
    three.git("push", "-q")
    assert back(three) == 0
    assert three.holds("prod") == "1.2.0-0.1.0"
    assert "from a file edited by hand to 1.2.0-0.1.0" in three.git("show", "--no-patch", "--format=%s")


def test_who_was_first_is_told_to_the_second(
    three: Any, new_clone: Callable[[str], Any], capsys: Any
) -> None:
    other = new_clone("other")
    assert back(other) == 0
    capsys.readouterr()
    assert back(three) == 1
    assert "Roll back fraud in prod from 1.2.0-0.1.0 to 1.1.0-0.1.0" in capsys.readouterr().err


def test_a_shallow_clone_is_told_that_it_is_one(
    origin: Path, three: Any, tmp_path: Path, capsys: Any
) -> None:
    three.hold("prod", three_one_up := _next())
    folder = tmp_path / "shallow"
    subprocess.run(["git", "clone", "-q", "--depth=1", f"file://{origin}", str(folder)], check=True)
    shallow = type(three)(folder)
    assert back(shallow) == 1
    assert "`git fetch --unshallow`" in capsys.readouterr().err
    shallow.git("fetch", "-q", "--unshallow")
    assert back(shallow) == 0
    assert shallow.holds("prod") == "1.2.0-0.1.0"
    assert three_one_up.tag == "1.3.0-0.1.0"


def _next() -> Release:
    return Release(
        "registry.example/forest/fraud", "1.3.0", "0.1.0", "sha256:" + "3" * 64, "sha256:" + "4" * 64
    )


@pytest.mark.usefixtures("needs_kustomize")
def test_the_pods_are_the_very_same_unless_the_environments_files_changed(three: Any, capsys: Any) -> None:
    assert back(three) == 0
    assert "pods" not in capsys.readouterr().err
    file = three.folder / "kustomize/overlays/prod/fraud/kustomization.yaml"
    three.write("kustomize/overlays/prod/fraud/kustomization.yaml", file.read_text().replace("prod", "PROD"))
    three.commit("Resize")
    three.git("push", "-q")
    assert back(three) == 0
    error = capsys.readouterr().err
    assert "the pods will not be the very same as when 1.0.0-0.1.0 last ran" in error
    assert "(kustomize/overlays/prod/fraud/kustomization.yaml)" in error


@pytest.mark.usefixtures("needs_kustomize")
@pytest.mark.parametrize(("server_version", "told"), [("0.2.0", True), ("0.1.0", False)])
def test_settings_that_an_older_server_may_not_know_are_named(
    clone: Any, release_of: Callable[..., Release], capsys: Any, server_version: str, told: bool
) -> None:
    clone.hold("prod", release_of("1.1.0", server_version))
    base = "kustomize/base/kustomization.yaml"
    text = (clone.folder / base).read_text()
    setting = "      - FOREST_LOG_LEVEL=info\n"
    assert setting in text
    clone.write(base, text.replace(setting, setting + "      - FOREST_LEAVE_TIMEOUT=45\n"))
    clone.commit("Leave")
    clone.git("push", "-q")
    assert back(clone) == 0
    assert clone.holds("prod") == "1.0.0-0.1.0"
    error = capsys.readouterr().err
    assert f"({base})" in error
    named = "FOREST_LEAVE_TIMEOUT came into the settings since 1.0.0-0.1.0 last ran"
    assert (named in error) is told
    assert ("if 0.1.0 is too old for that" in error) is told
    assert "FOREST_LOG_LEVEL" not in error


@pytest.mark.usefixtures("needs_kustomize")
def test_a_rollback_renders_the_same_bytes_as_before(three: Any) -> None:
    overlay = PurePosixPath("kustomize/overlays/prod/fraud")
    three.git("switch", "-q", "--detach", "HEAD~2")
    assert three.holds("prod") == "1.1.0-0.1.0"
    before = render(three.folder, overlay)
    three.git("switch", "-q", "main")
    assert render(three.folder, overlay) != before
    back(three)
    assert render(three.folder, overlay) == before


@pytest.mark.usefixtures("needs_kustomize")
def test_in_the_house_every_models_revert_renders_the_same_bytes(
    clone: Any, release_of: Callable[..., Release]
) -> None:
    clone.git("rm", "-rq", "kustomize")
    shutil.copytree(ROOT / "kustomize", clone.folder / "kustomize", dirs_exist_ok=True)
    clone.commit("Move in")
    clone.git("push", "-q")
    models = sorted(file.parent.name for file in (clone.folder / "kustomize/overlays/prod").glob("*/*.yaml"))
    assert models
    for model in models:
        overlay = PurePosixPath("kustomize/overlays/prod") / model
        before = render(clone.folder, overlay)
        clone.hold("prod", release_of("9.0.0"), model=model)
        assert render(clone.folder, overlay) != before
        assert clone.run("rollback", model, "--env", "prod") == 0
        assert render(clone.folder, overlay) == before


def test_a_pull_that_merged_the_branch_into_ones_own_hides_no_release(
    three: Any, new_clone: Callable[[str], Any], origin: Path
) -> None:
    behind = new_clone("behind")
    behind.git("reset", "-q", "--hard", "HEAD~4")
    behind.write("README.md", "Mine\n")
    behind.commit("Mine")
    # As `git pull` does: what were the branch's own commits are now the merged side of one commit.
    behind.git("pull", "-q", "--no-rebase", "--no-edit")
    behind.git("push", "-q")
    assert behind.git("rev-list", "--first-parent", "--count", "HEAD") == "3"
    assert back(behind) == 0
    assert behind.holds("prod") == "1.1.0-0.1.0"
    assert back(behind) == 0
    assert behind.holds("prod") == "1.0.0-0.1.0"
    assert back(behind, "--to", "1.1.0") == 0
    assert behind.holds("prod") == "1.1.0-0.1.0"
    assert behind.holds("prod", "credit") == "1.9.0-0.1.0"


def test_what_no_release_can_be_read_from_is_passed_over(
    three: Any, release_of: Callable[..., Release], capsys: Any
) -> None:
    three.write(PROD, "# by hand\n" + (three.folder / PROD).read_text())
    hand = three.commit("By hand")
    three.hold("prod", release_of("1.4.0"))
    assert back(three) == 0
    assert three.holds("prod") == "1.2.0-0.1.0"
    assert f"passed over, for no release can be read there: {hand[:12]}" in capsys.readouterr().err
    assert back(three) == 0
    assert three.holds("prod") == "1.1.0-0.1.0"


def test_a_file_that_was_deleted_comes_back_by_name(three: Any, capsys: Any) -> None:
    three.git("rm", "-q", PROD)
    gone = three.commit("Gone")
    three.git("push", "-q")
    assert back(three) == 1
    assert (
        f"Ada deleted {PROD} in {gone[:12]}. To bring one back, name it: --to VERSION"
        in capsys.readouterr().err
    )
    assert back(three, "--to", "1.1.0") == 0
    assert three.holds("prod") == "1.1.0-0.1.0"
    assert "from no release to 1.1.0-0.1.0" in three.git("show", "--no-patch", "--format=%s")
    assert "taken back itself" not in capsys.readouterr().err


@pytest.mark.parametrize("name", ["*", "../fraud", "fraud/", "", "-x", "fraud\ncredit"])
def test_a_name_that_is_none_is_refused(clone: Any, name: str, capsys: Any) -> None:
    with pytest.raises(SystemExit):
        clone.run("rollback", "--env", "prod", "--", name)
    assert "is not a model's name, as fraud" in capsys.readouterr().err
