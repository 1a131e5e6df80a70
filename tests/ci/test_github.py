"""The workflows of GitHub: pinned actions, least rights, and no input that a shell would read."""

import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
# What else a workflow may do than read the code; each is for the job named.
_RIGHTS = {("release", "image"): {"packages": "write", "id-token": "write"}}


def test_actionlint_has_nothing_to_say(tool: Callable[..., Path]) -> None:
    done = subprocess.run(
        [tool("actionlint", build=True)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_no_workflow_is_left_out_of_these_tests(everything: list[Any]) -> None:
    there = {*ROOT.glob(".github/workflows/*"), *ROOT.glob("azure-pipelines/*.yaml")}
    assert there == {each.path for each in everything}


def test_every_action_is_pinned_by_its_commit_and_says_its_version(github: Any) -> None:
    uses = re.findall(r"uses: *(\S+)(.*)", github.path.read_text())
    assert len(uses) == github.path.read_text().count("uses:") > 0
    for action, comment in uses:
        assert re.fullmatch(r"actions/[a-z-]+@[0-9a-f]{40}", action), action
        assert re.fullmatch(r" # v\d+\.\d+\.\d+", comment), (action, comment)


def test_one_action_has_one_pin() -> None:
    pins = {
        pin
        for path in ROOT.glob(".github/workflows/*")
        for pin in re.findall(r"uses: *(\S+ # \S+)", path.read_text())
    }
    assert len(pins) == len({pin.partition("@")[0] for pin in pins})


def test_rights_are_given_by_job_and_are_few(github: Any) -> None:
    assert github.document["permissions"] == {}
    for name, job in github.jobs.items():
        more = _RIGHTS.get((github.path.stem, name), {})
        assert job["permissions"] in ({}, {"contents": "read"} | more), name
        if more:
            assert job["permissions"] == {"contents": "read"} | more


def test_only_who_pushes_keeps_the_token_in_the_clone(github: Any) -> None:
    for name, job in github.jobs.items():
        for step in job["steps"]:
            if step.get("uses", "").startswith("actions/checkout@"):
                pushes = step["with"].get("token") == "${{ steps.bot.outputs.token }}"
                assert pushes or step["with"]["persist-credentials"] is False, name


def test_the_bot_gets_no_more_than_it_needs(github: Any) -> None:
    granted = {
        key: value
        for job in github.jobs.values()
        for step in job["steps"]
        if step.get("uses", "").startswith("actions/create-github-app-token@")
        for key, value in step["with"].items()
        if key.startswith("permission-")
    }
    contents = {"permission-contents": "write"}
    assert (
        granted
        == {
            "check": {},
            "release": contents,
            "promote": contents | {"permission-pull-requests": "write"},
        }[github.path.stem]
    )


def test_jobs_end_and_do_not_run_beside_their_like(github: Any) -> None:
    assert github.document["concurrency"]["group"]
    # What releases is never cut off in the middle.
    assert (github.document["concurrency"]["cancel-in-progress"] is False) == (github.path.stem != "check")
    for job in github.jobs.values():
        assert 0 < job["timeout-minutes"] <= 60
        assert job["runs-on"] == "ubuntu-24.04"


def test_secrets_and_what_people_type_reach_a_shell_as_variables_only(github: Any) -> None:
    for step in github.steps:
        assert "${{" not in step.run, step.name
        assert step.name
    assert github.document["defaults"]["run"]["shell"] == "bash"


def test_what_changes_an_environment_runs_from_main_in_an_environment(github: Any) -> None:
    environments = {name: job.get("environment") for name, job in github.jobs.items()}
    if github.path.stem == "check":
        assert set(environments.values()) == {None}
        assert "secrets." not in github.path.read_text()
        return
    assert environments == (
        {"image": "release", "staging": "staging"}
        if github.path.stem == "release"
        else {"pull-request": "production"}
    )
    for job in github.jobs.values():
        assert "needs" in job or job["if"] == "github.ref == 'refs/heads/main'"


def test_nothing_is_fetched_and_run(everything: list[Any]) -> None:
    texts = [each.path.read_text() for each in everything]
    texts += [path.read_text() for path in ROOT.glob(".ci/*")]
    for text in texts:
        assert not re.search(r"(curl|wget)[^\n|]*\|[^|]", text)


@pytest.mark.parametrize("name", ["bundle", "image", "promote", "release", "scope", "tool"])
def test_scripts_stop_at_the_first_error(name: str) -> None:
    path = ROOT / ".ci" / name
    assert "\nset -euo pipefail\n" in path.read_text()
    assert path.stat().st_mode & 0o111
