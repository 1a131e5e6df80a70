"""What tests of every folder share."""

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import joblib
import pytest
from hypothesis import settings

from model_export import recipe as recipes
from model_export.export import Exported, export
from model_export.recipe import Recipe
from model_export.recipes.fraud import RECIPE

pytest_plugins = ["tests.certificates", "tests.image_builder"]

# Many servers run at once on one machine: only tests of metrics give one a port for them.
os.environ["FOREST_METRICS_PORT"] = "0"

# How long an example takes tells how busy the machine is.
settings.register_profile("forest", deadline=None)
settings.load_profile("forest")


@pytest.fixture(scope="session")
def small_recipe() -> Recipe:
    """Return the fraud model's recipe, with few trees and rows."""
    return replace(RECIPE, forest={**RECIPE.forest, "n_estimators": 32}, generated_rows=4_000)


@pytest.fixture(scope="session")
def fraud_export(small_recipe: Recipe, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Exported]:
    """Return a function that exports the small fraud model to a new folder, or to ``models``."""

    def run(
        recipe: Recipe = small_recipe,
        data: Path | None = None,
        *,
        models: Path | None = None,
        version: str = "1.0.0",
        seed: int = 0,
        jobs: int = 2,
    ) -> Exported:
        models = models or tmp_path_factory.mktemp("export") / "models"
        with joblib.parallel_config("threading", n_jobs=jobs):
            return export(recipe, data, models=models, version=version, seed=seed, say=lambda line: None)

    return run


@pytest.fixture(scope="session")
def fraud_bundle(fraud_export: Callable[..., Exported]) -> Path:
    """Return a bundle ``…/models/fraud/1.0.0``. It is shared: copy it before changing anything."""
    return fraud_export().folder


@pytest.fixture(scope="session")
def four_models(fraud_export: Callable[..., Exported], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a models folder with a small bundle of each of the four models. It is shared."""
    models = tmp_path_factory.mktemp("four") / "models"
    for name in ("fraud", "credit", "churn", "demand"):
        recipe = recipes.find(name)
        small = replace(recipe, forest={**recipe.forest, "n_estimators": 16}, generated_rows=2_000)
        fraud_export(small, models=models)
    return models


class ServerProcess:
    """The real server in a process of its own, on free ports.

    Attributes
    ----------
    target, health_target : str
        ``localhost:PORT`` of the API, and of health alone.
    log : list of str
        What it has written to stderr.
    """

    def __init__(self, models: Path, *flags: str, environment: Mapping[str, str] | None = None):
        command = [sys.executable, "-m", "server", "--models", str(models), *flags]
        for flag in ("--port", "--health-port"):
            if flag not in flags:
                command += [flag, "0"]
        self.log: list[str] = []
        self.process = subprocess.Popen(
            command,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, **(environment or {})},
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self.health_target = "localhost:" + self.wait_for(r"health on port (\d+)")
        self.target = "localhost:" + self.wait_for(r"SERVING on port (\d+)")

    def wait_for(self, pattern: str, seconds: float = 30) -> str:
        """Return the first group of a pattern when a line of the log has it."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            for line in tuple(self.log):
                if match := re.search(pattern, line):
                    return match[1] if match.groups() else match[0]
            if self.process.poll() is not None and not self._reader.is_alive():
                break
            time.sleep(0.01)
        raise AssertionError(f"no {pattern!r} in the server's log:\n{''.join(self.log)}")

    def stop(self, number: int = signal.SIGTERM, seconds: float = 60) -> int:
        """Signal it to stop and return its exit status."""
        self.process.send_signal(number)
        return self.process.wait(seconds)

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.log.append(line)


@pytest.fixture(scope="session")
def start_server() -> Iterator[Callable[..., ServerProcess]]:
    """Return a function that starts a server on a models folder, with flags."""
    started: list[ServerProcess] = []

    def start(models: Path, *flags: str, environment: Mapping[str, str] | None = None) -> ServerProcess:
        process = ServerProcess(models, *flags, environment=environment)
        started.append(process)
        return process

    yield start
    for process in started:
        if process.process.poll() is None:
            process.process.kill()
            process.process.wait()


@pytest.fixture(scope="session")
def server(start_server: Callable[..., ServerProcess], fraud_bundle: Path) -> ServerProcess:
    """Return a server that serves the small fraud model. It is shared: start another to stop one."""
    return start_server(fraud_bundle.parents[1])
