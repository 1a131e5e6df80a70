"""What is approved, and that this alone is what a promotion in the registry changes."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from model_bundle import digest
from model_export.__main__ import main
from model_export.registry.connection import connect
from model_export.registry.run import DIGEST, MODEL, VERSION

Command = Callable[..., Any]


@pytest.fixture
def runs(begun: None, forest_export: Command, bundle_of: Callable[..., Path]) -> dict[str, str]:
    """Return the runs that tracked three versions of fraud."""
    return {
        version: forest_export("track", bundle_of(version)).run for version in ("1.0.0", "1.9.0", "1.10.0")
    }


def table(forest_export: Command) -> list[list[str]]:
    """Return the rows of the list: model, version, digest, approvals, run, time."""
    told = forest_export("list")
    assert (told.status, told.err) == (0, "")
    assert told.out.splitlines()[0].split("  ")[0] == "MODEL"
    return [line.split("  ") for line in told.out.splitlines()[1:]]


def approved(forest_export: Command) -> dict[str, str]:
    return {
        cells[1]: cells[3]
        for row in table(forest_export)
        if (cells := [cell.strip() for cell in row if cell.strip()])
    }


def test_the_list_is_in_the_order_of_versions_and_names_run_and_digest(
    forest_export: Command, runs: dict[str, str], place: Path
) -> None:
    rows = forest_export("list").out.splitlines()[1:]
    assert [row.split()[:2] for row in rows] == [
        ["fraud", version] for version in ("1.0.0", "1.9.0", "1.10.0")
    ]
    for row, (version, run) in zip(rows, runs.items(), strict=True):
        found = digest.of_file(place / "models" / "fraud" / version / "manifest.json")
        assert row.split()[2:5] == [found[: len("sha256:") + 12], "-", run]


def test_an_approval_moves_and_says_from_where(forest_export: Command, runs: dict[str, str]) -> None:
    def promote(version: str, approval: str) -> str:
        told = forest_export("promote", "--run-id", runs[version], "--to", approval)
        assert (told.status, told.err) == (0, "")
        return str(told.out)

    assert promote("1.9.0", "staging") == "fraud 1.9.0 is approved for staging\n"
    assert promote("1.9.0", "production") == "fraud 1.9.0 is approved for production\n"
    assert approved(forest_export) == {"1.0.0": "-", "1.9.0": "staging, production", "1.10.0": "-"}
    assert promote("1.10.0", "staging") == "fraud 1.10.0 is approved for staging, and 1.9.0 no longer is\n"
    assert approved(forest_export) == {"1.0.0": "-", "1.9.0": "production", "1.10.0": "staging"}
    assert promote("1.10.0", "staging") == "fraud 1.10.0 is approved for staging already: nothing to do\n"
    # Back is the same way.
    assert (
        promote("1.0.0", "production") == "fraud 1.0.0 is approved for production, and 1.9.0 no longer is\n"
    )
    assert approved(forest_export) == {"1.0.0": "production", "1.9.0": "-", "1.10.0": "staging"}
    # Never a stage.
    versions = connect(None).client.search_model_versions("name = 'fraud'")
    assert {version.current_stage for version in versions} <= {None, "None"}


def test_an_alias_that_somebody_set_in_mlflow_is_no_approval_of_ours(
    forest_export: Command, runs: dict[str, str]
) -> None:
    connect(None).client.set_registered_model_alias("fraud", "champion", "1")
    assert approved(forest_export)["1.0.0"] == "-"


@pytest.mark.parametrize("run", ["0123456789abcdef0123456789abcdef", "nonsense", "../x", "a' or 1=1"])
@pytest.mark.usefixtures("runs")
def test_an_unknown_run_is_refused(forest_export: Command, run: str) -> None:
    told = forest_export("promote", "--run-id", run, "--to", "production")
    assert told.status == 1
    assert (
        f"MLflow at sqlite:///mlruns/mlflow.db has no run {run}: `forest-export list` shows the runs"
        in told.err
    )


def test_a_run_that_was_deleted_is_refused(forest_export: Command, runs: dict[str, str]) -> None:
    connect(None).client.delete_run(runs["1.0.0"])
    told = forest_export("promote", "--run-id", runs["1.0.0"], "--to", "production")
    assert f"has no run {runs['1.0.0']}" in told.err


@pytest.mark.usefixtures("runs")
def test_a_run_of_somebody_else_is_refused(forest_export: Command) -> None:
    client = connect(None).client
    run = client.create_run("0").info.run_id
    client.set_terminated(run)
    told = forest_export("promote", "--run-id", run, "--to", "production")
    assert told.status == 1
    assert f"run {run} in MLflow at sqlite:///mlruns/mlflow.db is none of forest-export's" in told.err
    assert forest_export("list").err == ""


def test_a_version_that_says_otherwise_than_its_run_is_not_approved(
    forest_export: Command, runs: dict[str, str]
) -> None:
    connect(None).client.set_model_version_tag("fraud", "1", DIGEST, f"sha256:{'0':0<64}")
    told = forest_export("promote", "--run-id", runs["1.0.0"], "--to", "production")
    assert told.status == 1
    assert f"says it is the bundle sha256:{'0':0<64}, but its run {runs['1.0.0']} logged sha256:" in told.err
    assert "production" not in forest_export("list").out


def test_models_and_versions_of_others_are_passed_over(forest_export: Command, runs: dict[str, str]) -> None:
    client = connect(None).client
    client.create_registered_model("theirs")
    client.create_model_version("theirs", "file:///nowhere")
    client.create_model_version(
        "fraud", "file:///nowhere", tags={MODEL: "fraud", VERSION: "next", DIGEST: "none"}
    )
    assert len(table(forest_export)) == len(runs)


@pytest.mark.parametrize(
    "arguments",
    [["promote", "--run-id", "1", "--to", "prod"], ["promote", "--to", "production"],
     ["promote", "--run-id", "1"], ["track"], ["list", "fraud"],
     ["fraud", "--tracking-uri", "http://mlflow.example"]],
)  # fmt: skip
def test_bad_arguments_are_refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    assert "forest-export" in capsys.readouterr().err
