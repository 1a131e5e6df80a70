import json
from collections.abc import Callable
from typing import Any

from gitops.release import Release


def test_a_table_of_what_head_holds(clone: Any, release_of: Callable[..., Release], capsys: Any) -> None:
    commit = clone.hold("staging", release_of("1.1.0"))
    assert clone.run("status") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["MODEL", "ENVIRONMENT", "VERSION", "TAG", "DIGEST", "SINCE", "BY", "COMMIT"]
    assert [line.split()[:4] for line in lines[1:]] == [
        ["credit", "staging", "1.0.0", "1.0.0-0.1.0"],
        ["credit", "prod", "1.0.0", "1.0.0-0.1.0"],
        ["fraud", "staging", "1.1.0", "1.1.0-0.1.0"],
        ["fraud", "prod", "1.0.0", "1.0.0-0.1.0"],
    ]
    assert lines[3].split()[4:] == [
        "sha256:110010000000", clone.git("log", "-1", "--format=%cI"), "Ada", commit[:12],
    ]  # fmt: skip


def test_json_tells_all_and_a_rollback_counts_as_since_then(
    clone: Any, release_of: Callable[..., Release], capsys: Any
) -> None:
    clone.hold("prod", release_of("1.1.0"))
    clone.run("rollback", "fraud", "--env", "prod")
    capsys.readouterr()
    assert clone.run("status", "--json") == 0
    row = json.loads(capsys.readouterr().out)[3]
    assert row == {
        "model": "fraud",
        "environment": "prod",
        "version": "1.0.0",
        "tag": "1.0.0-0.1.0",
        "digest": release_of().digest,
        "bundle": release_of().bundle,
        "since": clone.git("log", "-1", "--format=%cI"),
        "by": "Ada",
        "commit": clone.git("rev-parse", "HEAD"),
    }


def test_changes_that_are_not_committed_do_not_count(
    clone: Any, release_of: Callable[..., Release], capsys: Any
) -> None:
    clone.write("kustomize/overlays/prod/fraud/release/kustomization.yaml", release_of("9.0.0").to_bytes())
    assert clone.run("status") == 0
    assert "9.0.0" not in capsys.readouterr().out


def test_a_clone_that_is_behind_says_so(
    clone: Any, new_clone: Callable[[str], Any], release_of: Callable[..., Release], capsys: Any
) -> None:
    new_clone("other").hold("prod", release_of("1.1.0"))
    clone.git("fetch", "-q")
    assert clone.run("status") == 0
    assert "HEAD is 1 commits behind its upstream" in capsys.readouterr().err


def test_another_repository_is_told_apart(clone: Any, capsys: Any) -> None:
    clone.git("rm", "-rq", "kustomize")
    clone.commit("Empty")
    assert clone.run("status") == 1
    assert "is this the right repository and branch?" in capsys.readouterr().err


def test_a_file_broken_by_hand_hides_no_other(clone: Any, capsys: Any) -> None:
    path = "kustomize/overlays/staging/credit/release/kustomization.yaml"
    clone.write(path, "# by hand\n" + (clone.folder / path).read_text())
    clone.commit("By hand")
    assert clone.run("status") == 1
    said = capsys.readouterr()
    assert len(said.out.splitlines()) == 4
    assert f"{path} at " in said.err
    assert clone.run("status", "fraud") == 0
