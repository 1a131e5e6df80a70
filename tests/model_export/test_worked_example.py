"""The worked example of docs/recipes.md: the file there, exported, served and called as the page says."""

import json
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from model_bundle import bundle, golden
from model_export import recipe

_PAGE = (Path(__file__).parents[2] / "docs" / "recipes.md").read_text()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the page's file."""
    (code,) = re.findall(r"^```python\n(.*?)^```$", _PAGE, re.MULTILINE | re.DOTALL)
    folder = tmp_path_factory.mktemp("example")
    (folder / "house.py").write_text(code)
    return folder


@pytest.fixture(scope="module")
def exported(folder: Path) -> subprocess.CompletedProcess[str]:
    """Run the page's first command."""
    command = _command("forest-export")
    assert command == ["forest-export", "house.py"]
    return subprocess.run(
        [sys.executable, "-m", "model_export", *command[1:]],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )


def _command(program: str) -> list[str]:
    """Return the words of the page's command line of a program."""
    line = next(line for line in _PAGE.splitlines() if line.startswith(f"$ .venv/bin/{program}"))
    return shlex.split(line.removeprefix("$ .venv/bin/"))


def test_the_file_is_in_this_projects_manner(folder: Path):
    ruff, root = Path(sys.executable).with_name("ruff"), Path(__file__).parents[2]
    code = (folder / "house.py").read_text()
    for words in (("check",), ("format", "--check")):
        # As if it lay among the recipes.
        command = [ruff, *words, "--stdin-filename", "model_export/recipes/house.py", "-"]
        subprocess.run(command, cwd=root, input=code, text=True, check=True)
    assert len(code.splitlines()) < 80


def test_it_is_exported_by_its_file_and_proved(exported: subprocess.CompletedProcess[str], folder: Path):
    assert exported.returncode == 0, exported.stderr
    assert exported.stdout.splitlines()[0] == "models/house/1.0.0"
    assert "ONNX Runtime equals the trained forest on " in exported.stderr
    manifest, _ = bundle.read_manifest(folder / "models/house/1.0.0")
    assert manifest.metrics["r2"].value > 0.5
    assert manifest.metrics["coverage"].low <= 0.9 <= manifest.metrics["coverage"].high
    assert manifest.interval is not None
    assert "out of bag" in manifest.interval.method
    page = (folder / "models/house/1.0.0/model_card.html").read_text()
    assert "drawn row by row" in page
    assert "impute 435.0" in page


def test_it_is_served_and_answers_the_pages_call(
    exported: subprocess.CompletedProcess[str], folder: Path, start_server: Callable[..., Any]
):
    assert exported.returncode == 0
    process = start_server(folder / "models")
    command = _command("forest-predict")
    done = subprocess.run(
        [sys.executable, "-m", "forest_client", *command[1:], "--target", process.target],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    outcome = json.loads(done.stdout)["regression"]
    assert 15_000 < outcome["interval"]["low"] < outcome["value"] < outcome["interval"]["high"] < 700_000
    assert process.stop() == 0


def test_a_missing_value_scores_as_what_stands_for_it(
    exported: subprocess.CompletedProcess[str], folder: Path
):
    assert exported.returncode == 0
    imputed = recipe.find(str(folder / "house.py")).imputed
    loaded = bundle.load(folder / "models/house/1.0.0")
    rows = golden.from_bytes((folder / "models/house/1.0.0/golden.jsonl").read_bytes())
    lacking = [row for row in rows if row.record["total_bedrooms"] is None]
    assert lacking
    for row in lacking:
        loaded.encoder.encode_record({**row.record, **imputed})
        assert loaded.decision.outcome(loaded.session.score_row()) == row.outcome
    loaded.session.close()
