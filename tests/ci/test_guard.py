"""A commit that changes release files only starts no build, on GitHub and on Azure, and so no loop."""

import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gitops.layout import PROD, STAGING, release_file

ROOT = Path(__file__).parents[2]

_RELEASES = [str(release_file(environment, "fraud")) for environment in (STAGING, PROD)]
_OTHERS = [
    "kustomize/overlays/prod/fraud/kustomization.yaml",
    "kustomize/overlays/prod/kustomization.yaml",
    "kustomize/models/release/kustomization.yaml",
    "server/server.py",
    "README.md",
]


def _matches(pattern: str, path: str) -> bool:
    """Whether a path filter means a file: `**` is any path, `*` any name."""
    parts = [".*" if part == "**" else "[^/]*" if part == "*" else re.escape(part)
             for part in re.split(r"(\*\*|\*)", pattern)]  # fmt: skip
    return re.fullmatch("".join(parts), path) is not None


def _starts(each: Any, changed: list[str]) -> bool:
    """Whether a push to main that changes these files starts a workflow."""
    if each.path.parent.name == "workflows":
        if "push" not in each.on:
            return False
        assert set(each.on["push"]) == {"branches", "paths-ignore"}
        ignored = each.on["push"]["paths-ignore"]
    else:
        trigger = each.document["trigger"]
        if trigger == "none":
            return False
        assert set(trigger) == {"branches", "paths"}
        assert set(trigger["paths"]) == {"exclude"}
        ignored = trigger["paths"]["exclude"]
    return not all(any(_matches(pattern, path) for pattern in ignored) for path in changed)


@pytest.mark.parametrize("changed", [[path] for path in _RELEASES] + [_RELEASES])
def test_a_release_starts_nothing(everything: list[Any], changed: list[str]) -> None:
    assert [each.path.name for each in everything if _starts(each, changed)] == []


@pytest.mark.parametrize("changed", [[path] for path in _OTHERS] + [[_RELEASES[0], "server/server.py"]])
def test_anything_else_is_checked_and_nothing_else_starts(everything: list[Any], changed: list[str]) -> None:
    assert [each.path.name for each in everything if _starts(each, changed)] == ["check.yaml", "check.yaml"]


def test_only_people_start_what_writes(everything: list[Any]) -> None:
    for each in everything:
        if each.path.parent.name == "workflows":
            assert set(each.on) == (
                {"pull_request", "push"} if each.path.stem == "check" else {"workflow_dispatch"}
            )


def test_a_pull_request_is_filtered_by_the_scope_job_alone(everything: list[Any]) -> None:
    # A workflow that a filter holds back leaves the checks that main requires pending, for ever.
    github, azure = everything[:2]
    assert github.on["pull_request"] is None
    assert azure.document["pr"] == {"branches": {"include": ["main"]}}
    assert "needs.scope.outputs.scope != 'release'" in github.jobs["test"]["if"]
    assert "ne(dependencies.scope.outputs['scope.scope'], 'release')" in azure.jobs["test"]["condition"]
    # Rendering and linting take seconds, and are what keeps a revert safe: they are never left out.
    assert "needs" not in github.jobs["lint"]
    assert "dependsOn" not in azure.jobs["lint"]


@pytest.mark.parametrize(
    ("changed", "scope"),
    [
        *(([path], "release") for path in _RELEASES),
        (_RELEASES, "release"),
        *(([path], "all") for path in _OTHERS),
        ([_RELEASES[0], "server/server.py"], "all"),
        ([], "all"),
    ],
)
def test_the_scope_of_a_commit(
    environment: dict[str, str], make_repository: Callable[..., Path], changed: list[str], scope: str
) -> None:
    folder = make_repository(*_RELEASES)

    def git(*words: str) -> None:
        subprocess.run(["git", *words], cwd=folder, env=environment, check=True, capture_output=True)

    # The commit of a pull request is a merge, whose first parent is main.
    git("switch", "--quiet", "-c", "change")
    for path in changed:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text("changed\n")
    git("add", "--all")
    git("commit", "--quiet", "--allow-empty", "-m", "change")
    git("switch", "--quiet", "main")
    git("merge", "--quiet", "--no-ff", "-m", "merge", "change")
    said = subprocess.run([folder / ".ci/scope"], env=environment, check=True, capture_output=True, text=True)
    assert said.stdout == f"{scope}\n"
