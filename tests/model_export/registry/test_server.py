"""The same with MLflow's own tracking server on a real PostgreSQL, and a promotion in Git that asks it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gitops.registry import Credentials, Registry
from gitops.release import Release
from gitops.service import ServiceError
from model_bundle import bundle, created, digest

Command = Callable[..., Any]

# The server is installed when there is none.
pytestmark = pytest.mark.timeout(1_200)


@pytest.fixture
def server(tracking_server: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return the server, which is now the one that is asked."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", tracking_server.uri)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    return tracking_server


def test_the_whole_way(
    server: Any, forest_export: Command, bundle_of: Callable[..., Path], place: Path
) -> None:
    first, second = bundle_of("1.0.0"), bundle_of("1.1.0")
    told = [forest_export("track", folder) for folder in (first, second, second)]
    runs = [each.run for each in told[:2]]
    # MLflow's own remarks are not among it.
    assert [each.out for each in told] == [f"run        {run}\n" for run in (*runs, runs[1])]
    assert not (place / "mlruns").exists()

    # It is in PostgreSQL, and the files are where the server keeps them.
    ask = server.postgres.ask
    rows = ask("select name, version, run_id from model_versions where name = 'fraud' order by version")
    assert rows.splitlines() == [f"fraud|1|{runs[0]}", f"fraud|2|{runs[1]}"]
    manifest, found = bundle.read_manifest(second)
    assert (
        ask(f"select value from tags where run_uuid = '{runs[1]}' and key = 'forest.bundle_digest'") == found
    )
    assert ask(f"select value from params where run_uuid = '{runs[1]}' and key = 'data_digest'") == (
        manifest.lineage.data_digest
    )
    recall = ask(f"select value from latest_metrics where run_uuid = '{runs[1]}' and key = 'recall'")
    assert float(recall) == manifest.metrics["recall"].value
    (kept,) = server.artifacts.rglob(f"{runs[1]}/artifacts/bundle/model.onnx")
    assert digest.of_file(kept) == manifest.files["model.onnx"]

    told = forest_export("promote", "--run-id", runs[0], "--to", "production")
    assert told.out == "fraud 1.0.0 is approved for production\n", told.err
    told = forest_export("promote", "--run-id", runs[1], "--to", "production")
    assert told.out == "fraud 1.1.0 is approved for production, and 1.0.0 no longer is\n"
    assert ask("select alias, version from registered_model_aliases where name = 'fraud'") == "production|2"
    told = forest_export("list")
    assert [line.split()[1:4:2] for line in told.out.splitlines()[1:]] == [
        ["1.0.0", "-"],
        ["1.1.0", "production"],
    ]

    told = forest_export("fetch", "fraud@production", "--out", "back")
    assert told.status == 0, told.err
    made = created.to_text(int((second / "manifest.json").stat().st_mtime))
    assert told.out == f"back/fraud/1.1.0\ndigest     {found}\ncreated    {made}\n"
    kept.write_bytes(b"another")
    told = forest_export("fetch", "fraud@production", "--out", "again")
    assert told.status == 1
    assert "is not what was registered: model.onnx: its digest is" in told.err
    assert not (place / "again").exists()


def test_what_there_is_not_is_said_as_by_a_file(server: Any, forest_export: Command, bundle_of: Any) -> None:
    run = "0123456789abcdef0123456789abcdef"
    told = forest_export("promote", "--run-id", run, "--to", "production")
    assert f"MLflow at {server.uri} has no run {run}" in told.err
    told = forest_export("fetch", "nothing@production")
    assert f"MLflow at {server.uri} has no model nothing" in told.err
    forest_export("track", bundle_of("3.0.0"))
    told = forest_export("fetch", "fraud@staging")
    assert "no version of fraud is approved for staging" in told.err
    told = forest_export("track", bundle_of("3.0.0", models="others", remark=" Anew."))
    assert (told.status, "a version never changes" in told.err) == (1, True)


def test_what_another_program_at_the_address_says_is_told_in_a_line(
    server: Any, forest_export: Command
) -> None:
    told = forest_export("list", "--tracking-uri", f"{server.uri}/elsewhere")
    assert told.status == 1
    assert told.err.startswith(f"forest-export: MLflow at {server.uri}/elsewhere: ")
    assert len(told.err.splitlines()) == 1


def test_git_is_promoted_when_the_registry_has_approved(
    server: Any, forest_export: Command, bundle_of: Callable[..., Path]
) -> None:
    folders = [bundle_of(version) for version in ("2.0.0", "2.1.0")]
    old, new = (
        Release("registry.example/forest/fraud", folder.name, "0.1.0", f"sha256:{'1':0<64}",
                digest.of_file(folder / "manifest.json"))
        for folder in folders
    )  # fmt: skip
    asked = Registry(server.uri, Credentials())
    with pytest.raises(
        ServiceError, match=r"No run there has logged that bundle: `forest-export track …/fraud/2.1.0`"
    ):
        asked.approved("fraud", new)
    with pytest.raises(ServiceError, match=r"approved is nothing\. No run there has logged that bundle"):
        asked.approved("unknown", new)

    runs = [forest_export("track", folder).run for folder in folders]
    forest_export("promote", "--run-id", runs[0], "--to", "production")
    forest_export("promote", "--run-id", runs[1], "--to", "staging")
    assert asked.approved("fraud", old) == f"Approved for production: fraud 2.0.0, run {runs[0]}"
    with pytest.raises(ServiceError) as caught:
        asked.approved("fraud", new)
    assert f"approved is fraud 2.0.0 with {old.bundle}, run {runs[0]}" in str(caught.value)
    # The command that it names is the one that helps.
    command = f"promote --run-id {runs[1]} --to production"
    assert f"`forest-export {command}` approves it" in str(caught.value)
    assert forest_export(*command.split()).status == 0
    assert asked.approved("fraud", new) == f"Approved for production: fraud 2.1.0, run {runs[1]}"
