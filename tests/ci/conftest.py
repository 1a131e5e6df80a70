"""The workflows of GitHub and of Azure, read; and the tools that they use."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "forest-serving"
# What go says when it reaches no module proxy, or one that holds another selection.
_NO_MODULE = re.compile(r"dial tcp|i/o timeout|no such host|403 Forbidden|404 Not Found")


@dataclass(frozen=True)
class Step:
    """A step that runs a command.

    Attributes
    ----------
    job : str
        The name of its job.
    name : str
        What people see.
    run : str
        The command.
    env : dict
        The variables that the step gives it.
    """

    job: str
    name: str
    run: str
    env: dict[str, str]

    @property
    def commands(self) -> list[str]:
        """What it runs of this repository's; what else it does is the platform's own way."""
        return re.findall(r"\.ci/\w+(?: [a-z]+)?|make [a-z]+", self.run)


class GitHub:
    """A workflow of GitHub."""

    def __init__(self, name: str):
        self.path = ROOT / ".github/workflows" / f"{name}.yaml"
        # `on` is a boolean to YAML 1.1.
        self.document: dict[Any, Any] = yaml.safe_load(self.path.read_text())
        self.on = self.document[True]

    @property
    def jobs(self) -> dict[str, Any]:
        return dict(self.document["jobs"])

    @property
    def steps(self) -> list[Step]:
        """Every step that runs a command, in order."""
        return [
            Step(job, step.get("name", ""), step["run"].strip(), step.get("env", {}))
            for job, body in self.jobs.items()
            for step in body["steps"]
            if "run" in step
        ]


class Azure:
    """A pipeline of Azure, its templates put in."""

    def __init__(self, name: str):
        self.path = ROOT / "azure-pipelines" / f"{name}.yaml"
        self.document = self._read(self.path)

    @property
    def jobs(self) -> dict[str, Any]:
        return {body.get("job", body.get("deployment")): body for body in self.document["jobs"]}

    @property
    def steps(self) -> list[Step]:
        """Every step that runs a command, in order."""
        return [
            Step(job, step.get("displayName", ""), step["bash"].strip(), step.get("env", {}))
            for job, body in self.jobs.items()
            for step in self.every(body)
            if "bash" in step
        ]

    def every(self, job: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """Return each step of a job, or of a deployment."""
        steps = job["steps"] if "steps" in job else job["strategy"]["runOnce"]["deploy"]["steps"]
        for step in steps:
            if "template" in step:
                yield from self._read(self.path.parent / step["template"])["steps"]
            else:
                yield step

    @staticmethod
    def _read(path: Path) -> dict[str, Any]:
        # Everything is text to Azure.
        return dict(yaml.load(path.read_text(), yaml.BaseLoader))


_NAMES = ("check", "release", "promote")


@pytest.fixture(params=_NAMES)
def github(request: pytest.FixtureRequest) -> GitHub:
    """Return each workflow of GitHub."""
    return GitHub(request.param)


@pytest.fixture(params=_NAMES)
def azure(request: pytest.FixtureRequest) -> Azure:
    """Return each pipeline of Azure."""
    return Azure(request.param)


@pytest.fixture(scope="session")
def everything() -> list[GitHub | Azure]:
    """Return every workflow and pipeline."""
    return [kind(name) for name in _NAMES for kind in (GitHub, Azure)]


@pytest.fixture(scope="session")
def tool() -> Callable[..., Path]:
    """Return a function that gives a tool of `.ci/tool`, which it builds only if that takes seconds."""

    def find(name: str, *, build: bool = False) -> Path:
        text = (ROOT / ".ci/tool").read_text()
        (version,) = re.findall(rf"^{name}\) .* version=(\S+)", text, re.MULTILINE)
        path = CACHE / "tools" / f"{name}-{version}" / name
        if path.exists():
            return path
        if not build:
            pytest.skip(f"{name} {version} is not here: `.ci/tool {name}` builds it, in some minutes")
        if not shutil.which("go"):
            pytest.skip(f"{name} is built by go, which is not here")
        done = subprocess.run(
            [ROOT / ".ci/tool", name], capture_output=True, text=True, check=False, timeout=280
        )
        if done.returncode and _NO_MODULE.search(done.stderr):
            pytest.skip(f"go reaches no proxy that has {name} {version}: {done.stderr.splitlines()[-1]}")
        assert done.returncode == 0, done.stderr
        return Path(done.stdout.strip()) / name

    return find


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """Return an environment in which the scripts find this very code, and git no settings."""
    bin_ = tmp_path / "bin"
    bin_.mkdir()
    for command, module in (("forest-gitops", "gitops"), ("forest-export", "model_export")):
        (bin_ / command).write_text(f'#!/bin/sh\nexec {sys.executable} -m {module} "$@"\n')
        (bin_ / command).chmod(0o755)
    settings = {
        "PATH": f"{bin_}:{os.environ['PATH']}",
        "PYTHONPATH": f"{ROOT}:{ROOT / 'clients/python'}",
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_CONFIG_SYSTEM": os.devnull,
    }
    for role in ("AUTHOR", "COMMITTER"):
        settings |= {f"GIT_{role}_NAME": "Ada", f"GIT_{role}_EMAIL": "ada@example.com"}
    left_out = {
        "MODEL",
        "VERSION",
        "IMAGE",
        "ENGINE",
        "ARCHIVE",
        "CREATED",
        "BUNDLE_DIGEST",
        "COSIGN_KEY",
        "ARGOCD_SERVER",
        "MLFLOW_TRACKING_URI",
        "WITHOUT_SOAK",
        "REGISTRY_USER",
    }
    return {name: value for name, value in os.environ.items() if name not in left_out} | settings


@pytest.fixture
def make_repository(tmp_path: Path, environment: dict[str, str]) -> Callable[..., Path]:
    """Return a function that makes a clone of a bare repository: the scripts, and the files named."""

    def make(*paths: str) -> Path:
        origin, folder = tmp_path / "origin.git", tmp_path / "clone"
        for command in (
            ["git", "init", "--quiet", "--bare", "-b", "main", str(origin)],
            ["git", "clone", "--quiet", str(origin), str(folder)],
        ):
            subprocess.run(command, env=environment, check=True, capture_output=True)
        shutil.copytree(ROOT / ".ci", folder / ".ci")
        shutil.copy2(ROOT / ".gitignore", folder)
        for path in paths:
            source, target = ROOT / path, folder / path
            target.parent.mkdir(parents=True, exist_ok=True)
            if source.is_dir():
                shutil.copytree(source, target, dirs_exist_ok=True)
            else:
                shutil.copy2(source, target)
        for words in (
            ["switch", "--quiet", "-c", "main"],
            ["add", "--all"],
            ["commit", "--quiet", "-m", "All there is"],
            ["push", "--quiet", "-u", "origin", "main"],
        ):
            subprocess.run(["git", *words], cwd=folder, env=environment, check=True, capture_output=True)
        return folder

    return make
