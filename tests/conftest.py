"""What tests of every folder share."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import joblib
import pytest

from model_export.export import Exported, export
from model_export.recipe import Recipe
from model_export.recipes.fraud import RECIPE


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
