"""What is logged of an export, and that a version is registered once, whole, or not at all."""

import json
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from model_bundle import bundle, created, digest
from model_export import recipe as recipes
from model_export.recipe import Recipe
from model_export.registry.connection import connect
from model_export.registry.error import RegistryError
from model_export.registry.registry import Registry

Command = Callable[..., Any]


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch, small_recipe: Recipe) -> None:
    """Make every model as small as a test needs it."""

    def find(name: str, found: Any = recipes.find) -> Recipe:
        recipe = found(name)
        return replace(recipe, forest={**recipe.forest, "n_estimators": 16}, generated_rows=2_000)

    monkeypatch.setattr(recipes, "find", find)


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.usefixtures("small")
def test_a_tracked_export_is_logged_whole(forest_export: Command, place: Path) -> None:
    plain = forest_export("fraud", "--out", "elsewhere", "--version", "1.1.0")
    assert not (place / "mlruns").exists()
    told = forest_export("fraud", "--version", "1.1.0", "--track")
    assert told.status == 0, told.err
    folder = place / "models" / "fraud" / "1.1.0"
    # Nothing of MLflow is in it.
    assert files(folder) == files(place / "elsewhere" / "fraud" / "1.1.0")
    # Each was made at its own time.
    made = created.to_text(int((folder / "manifest.json").stat().st_mtime))
    lines = told.out.splitlines()
    assert lines[2] == f"created    {made}"
    other = plain.out.splitlines()
    assert lines[1:2] + lines[3:-1] == other[1:2] + other[3:]

    manifest, found = bundle.read_manifest(folder)
    client = connect(None).client
    run = client.get_run(told.run)
    assert (run.info.status, run.info.run_name) == ("FINISHED", "fraud 1.1.0")
    assert client.get_experiment(run.info.experiment_id).name == "fraud"
    ends = {name: metric.value for name, metric in manifest.metrics.items()}
    ends |= {f"{name}_low": metric.low for name, metric in manifest.metrics.items()}
    ends |= {f"{name}_high": metric.high for name, metric in manifest.metrics.items()}
    assert run.data.metrics == ends
    parameters = run.data.params
    lineage = manifest.lineage
    assert parameters["data_digest"] == lineage.data_digest == run.data.tags["forest.data_digest"]
    assert {name: parameters[name] for name in lineage.parameters} == dict(lineage.parameters)
    assert {name: parameters[f"library.{name}"] for name in lineage.libraries} == dict(lineage.libraries)
    assert (parameters["recipe"], parameters["seed"]) == ("fraud", "0")
    assert float(parameters["threshold"]) == manifest.threshold

    (version,) = client.search_model_versions("name = 'fraud'")
    assert version.run_id == told.run
    assert version.tags["forest.version"] == "1.1.0"
    assert version.tags["forest.bundle_digest"] == found == run.data.tags["forest.bundle_digest"]
    assert version.tags["forest.created"] == made == run.data.tags["forest.created"]
    assert version.current_stage in (None, "None")
    # The files themselves, and no pickle: nothing else is among the artifacts.
    (logged,) = (place / "mlruns" / "artifacts" / "fraud").glob("*/artifacts")
    assert files(logged) == {f"bundle/{name}": data for name, data in files(folder).items()}


@pytest.mark.usefixtures("small", "begun")
def test_a_regression_is_logged_as_well(forest_export: Command) -> None:
    told = forest_export("demand", "--track")
    assert told.status == 0, told.err
    run = connect(None).client.get_run(told.run)
    assert {"r2", "coverage", "coverage_low"} <= set(run.data.metrics)
    assert "threshold" not in run.data.params
    assert run.data.params["split_by"] == "time"


@pytest.mark.usefixtures("begun")
def test_a_bundle_that_is_there_is_tracked_and_a_second_time_is_nothing_to_do(
    forest_export: Command, bundle_of: Callable[..., Path]
) -> None:
    folder = bundle_of()
    first = forest_export("track", folder)
    assert (first.status, first.err) == (0, "")
    again = forest_export("track", folder)
    assert again.status == 0
    assert again.run == first.run
    assert "fraud 1.0.0 is registered already, with this very bundle: nothing to do" in again.err
    client = connect(None).client
    assert len(client.search_model_versions("name = 'fraud'")) == 1
    assert len(client.search_runs([client.get_run(first.run).info.experiment_id])) == 1


@pytest.mark.usefixtures("begun")
def test_a_version_never_changes(forest_export: Command, bundle_of: Callable[..., Path]) -> None:
    first, other = bundle_of(), bundle_of(models="others", remark=" Anew.")
    run = forest_export("track", first).run
    told = forest_export("track", other)
    assert told.status == 1
    assert f"with the bundle {digest.of_file(first / 'manifest.json')} (run {run})" in told.err
    assert f"and this one is {digest.of_file(other / 'manifest.json')}: a version never changes" in told.err
    assert len(connect(None).client.search_model_versions("name = 'fraud'")) == 1


@pytest.mark.usefixtures("begun")
@pytest.mark.parametrize("remark", ["", " Anew."])
def test_of_two_at_once_the_first_has_the_version(
    bundle_of: Callable[..., Path], registry: Any, remark: str
) -> None:
    first, second = bundle_of(models="first"), bundle_of(models="second", remark=remark)

    class Slow(Registry):
        @contextmanager
        def _run(self, *arguments: Any) -> Any:
            with super()._run(*arguments) as run:
                yield run
            # Now that its bundle is logged, another registers the version.
            self.other, _ = registry().track(first)

    slow = Slow(connect(None, make=True))
    if remark:
        with pytest.raises(RegistryError, match="a version never changes"):
            slow.track(second)
    else:
        assert slow.track(second) == (slow.other, False)
    (version,) = registry().versions()
    assert version == slow.other


@pytest.mark.usefixtures("begun")
def test_a_broken_bundle_is_not_logged(forest_export: Command, bundle_of: Callable[..., Path]) -> None:
    folder = bundle_of()
    (folder / "golden.jsonl").write_bytes(b"")
    told = forest_export("track", folder)
    assert told.status == 1
    assert "forest-export: the bundle does not load: golden.jsonl: its digest is" in told.err
    client = connect(None).client
    assert [found.name for found in client.search_experiments()] == ["Default"]
    assert forest_export("track", "nowhere/fraud/1.0.0").status == 1


# --- runs that were broken off


@pytest.mark.usefixtures("begun")
def test_what_breaks_off_registers_nothing_and_can_be_tracked_again(
    forest_export: Command, bundle_of: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    logged = []

    def broken(self: Any, run: str, path: str, place: str, real: Any = MlflowClient.log_artifact) -> None:
        logged.append(run)
        if len(logged) == 3:
            raise MlflowException("no space left")
        real(self, run, path, place)

    folder = bundle_of()
    with monkeypatch.context() as patched:
        patched.setattr(MlflowClient, "log_artifact", broken)
        told = forest_export("track", folder)
    assert told.status == 1
    assert "MLflow at sqlite:///mlruns/mlflow.db: no space left" in told.err
    run = logged[0]
    assert connect(None).client.get_run(run).info.status == "FAILED"

    listed = forest_export("list")
    assert listed.out.splitlines()[1:] == []
    assert f"run {run} (fraud 1.0.0) is FAILED and has registered nothing" in listed.err
    refused = forest_export("promote", "--run-id", run, "--to", "production")
    assert refused.status == 1
    assert f"run {run} of fraud 1.0.0 was broken off: it has registered nothing (it is FAILED)" in refused.err
    assert "`forest-export track …/fraud/1.0.0` logs the bundle in a new run" in refused.err

    again = forest_export("track", folder)
    assert again.status == 0
    assert forest_export("list").err == ""
    refused = forest_export("promote", "--run-id", run, "--to", "production")
    assert f"run {run} is not the one that registered fraud 1.0.0: that is {again.run}" in refused.err
    assert forest_export("promote", "--run-id", again.run, "--to", "production").status == 0


@pytest.mark.usefixtures("begun")
def test_what_was_killed_is_not_taken_for_done(
    forest_export: Command, bundle_of: Callable[..., Path]
) -> None:
    folder = bundle_of()
    script = (
        "import os, sys\n"
        "from model_export.__main__ import main\n"
        "from model_export.registry.registry import Registry\n"
        "Registry._register = lambda *_: os._exit(9)\n"
        "from mlflow import MlflowClient\n"
        "MlflowClient.log_artifact = lambda *_: os._exit(9) if sys.argv[2:] else None\n"
        "main(['track', sys.argv[1]])\n"
    )
    for early in ([], ["early"]):
        killed = [sys.executable, "-c", script, str(folder), *early]
        assert subprocess.run(killed, check=False, timeout=120).returncode == 9
    told = forest_export("list")
    assert told.out.splitlines()[1:] == []
    finished, begun = (line.split()[2] for line in told.err.splitlines())
    refused = forest_export("promote", "--run-id", begun, "--to", "staging")
    assert f"run {begun} of fraud 1.0.0 was begun and has not ended" in refused.err
    refused = forest_export("promote", "--run-id", finished, "--to", "staging")
    assert "was broken off: it has registered nothing (it is FINISHED)" in refused.err


@pytest.mark.usefixtures("small", "begun")
@pytest.mark.parametrize(
    ("fault", "status"), [(OSError(28, "No space left on device"), 1), (KeyboardInterrupt(), 130)]
)
def test_an_export_whose_tracking_fails_keeps_its_bundle_and_says_so(
    forest_export: Command, place: Path, monkeypatch: pytest.MonkeyPatch, fault: BaseException, status: int
) -> None:
    from mlflow import MlflowClient

    def broken(*_: Any) -> None:
        raise fault

    with monkeypatch.context() as patched:
        patched.setattr(MlflowClient, "log_batch", broken)
        told = forest_export("fraud", "--track")
    assert told.status == status
    assert (
        "The bundle is in models/fraud/1.0.0, and not registered: `forest-export track models/fraud/1.0.0`"
        in told.err
    )
    bundle.load(place / "models" / "fraud" / "1.0.0").session.close()
    assert forest_export("track", "models/fraud/1.0.0").status == 0


# --- where the registry is


def test_a_file_of_ones_own_has_its_artifacts_beside_it(
    forest_export: Command, bundle_of: Callable[..., Path], place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = forest_export("track", bundle_of(), "--tracking-uri", "sqlite:///ours/models.db")
    assert told.status == 0
    assert not (place / "mlruns").exists()
    assert (
        place / "ours" / "artifacts" / "fraud" / told.run / "artifacts" / "bundle" / "model.onnx"
    ).is_file()
    assert sqlite3.connect(place / "ours" / "models.db").execute(
        "select name from registered_models"
    ).fetchall() == [("fraud",)]
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///ours/models.db")
    assert told.run in forest_export("list").out


@pytest.mark.parametrize(
    "command", [["list"], ["promote", "--run-id", "1", "--to", "staging"], ["fetch", "fraud@staging"]]
)
def test_asking_makes_no_registry(forest_export: Command, place: Path, command: list[str]) -> None:
    told = forest_export(*command)
    assert told.status == 1
    assert (
        "there is no registry sqlite:///mlruns/mlflow.db here: `forest-export MODEL --track` begins one"
        in told.err
    )
    assert list(place.iterdir()) == []


def test_a_server_that_is_not_there_is_said_before_any_work(forest_export: Command, place: Path) -> None:
    told = forest_export("fraud", "--track", "--tracking-uri", "http://127.0.0.1:9")
    assert told.status == 1
    assert told.err.startswith("forest-export: MLflow at http://127.0.0.1:9 cannot be reached (")
    assert "Connection refused" in told.err
    assert len(told.err.splitlines()) == 1
    assert list(place.iterdir()) == []


@pytest.mark.parametrize(
    "uri",
    ["mlruns", "file:///tmp/mlruns", "sqlite:///", "databricks", "postgresql://ada:secret@db/mlflow",
     "https://ada:secret@mlflow.example", "http://", "http://mlflow.example:port", "http://mlflow.example?token=secret",
     "http://mlflow\n.example"],
)  # fmt: skip
def test_an_address_that_is_none_is_refused_and_its_secret_not_shown(
    forest_export: Command, uri: str
) -> None:
    told = forest_export("list", "--tracking-uri", uri)
    assert told.status == 1
    assert "is not an address of MLflow: give http://HOST:PORT or https://HOST:PORT" in told.err
    assert len(told.err.splitlines()) == 1
    assert "secret" not in told.err


def test_a_file_that_is_no_database_is_left_alone(forest_export: Command, place: Path) -> None:
    (place / "notes.db").write_text("not a database, but notes")
    told = forest_export("list", "--tracking-uri", "sqlite:///notes.db")
    assert told.status == 1
    assert "MLflow at sqlite:///notes.db: file is not a database" in told.err
    assert (place / "notes.db").read_text() == "not a database, but notes"


def test_a_folder_that_cannot_be_made_is_named(
    forest_export: Command, bundle_of: Callable[..., Path], place: Path
) -> None:
    (place / "mlruns").write_text("")
    told = forest_export("track", bundle_of())
    assert told.status == 1
    assert "mlruns: File exists: no registry can be made there" in told.err


# --- nobody else


_QUIET = """
import json, os, sys
from model_export.registry.connection import connect
connect(None, make=True)
from mlflow.telemetry.client import get_telemetry_client
from mlflow.telemetry.utils import is_telemetry_disabled
off = get_telemetry_client() is None and is_telemetry_disabled()
for name in ("MLFLOW_DISABLE_TELEMETRY", "DO_NOT_TRACK"):
    del os.environ[name]
print(json.dumps([off, is_telemetry_disabled()]))
"""


@pytest.mark.parametrize("asked", [{}, {"MLFLOW_DISABLE_TELEMETRY": "false", "DO_NOT_TRACK": "false"}])
def test_telemetry_is_off_whatever_the_caller_has_set(place: Path, asked: dict[str, str]) -> None:
    # Not as in CI, where MLflow is silent by itself: without our settings it would speak.
    home = place / "home"
    home.mkdir()
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(home), **asked}
    ran = subprocess.run(
        [sys.executable, "-c", _QUIET],
        cwd=place, env=environment, capture_output=True, text=True, check=True, timeout=120,
    )  # fmt: skip
    assert json.loads(ran.stdout) == [True, False]
    assert list(home.rglob("*")) == []


def test_without_mlflow_it_says_before_any_work_what_to_install(place: Path) -> None:
    script = (
        "import sys\n"
        "sys.modules['mlflow'] = None\n"
        "from model_export.__main__ import main\n"
        "sys.exit(main(['fraud', '--track']))\n"
    )
    ran = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=120
    )
    assert ran.returncode == 1
    assert ran.stderr == "forest-export: mlflow is absent: install model_export/registry/requirements.txt\n"
    assert not (place / "models").exists()
