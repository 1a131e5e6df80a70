"""The image that makes bundles: onto a volume, as a user without rights, for a server that follows it."""

import json
import os
import re
import shutil
import signal
import stat
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from model_bundle import digest

# The image is built once: a minute, and several on a machine that others use.
pytestmark = pytest.mark.timeout(900)

_ROOT = Path(__file__).parents[2]
_SERVER = tomllib.loads((_ROOT / "pyproject.toml").read_text())["project"]["version"]
# As kustomize/components/training has them: another user than the server's, and its group.
_USER, _GROUP = 65533, 65532
# That of the fixture small_recipe.
_RECIPE = """\
from dataclasses import replace

from model_export.recipes.fraud import RECIPE as FRAUD

RECIPE = replace(FRAUD, forest={**FRAUD.forest, "n_estimators": 32}, generated_rows=4_000)
"""


@pytest.fixture
def volume(tmp_path: Path) -> Path:
    """Return a folder as a volume with an fsGroup is."""
    folder = tmp_path / "volume"
    folder.mkdir()
    os.chown(folder, 0, _GROUP)
    folder.chmod(0o2775)
    return folder


@pytest.fixture
def export(
    export_image: Any, start_image: Callable[..., Any], volume: Path, tmp_path: Path
) -> Callable[..., Any]:
    """Return a function that starts forest-export of a small model onto the volume, with more flags."""
    recipes = tmp_path / "recipes"
    recipes.mkdir()
    (recipes / "small.py").write_text(_RECIPE)

    def run(*flags: str) -> Any:
        return start_image(
            export_image,
            {},
            arguments=["/recipes/small.py", "--out=/models", *flags],
            user=_USER,
            mounts={
                "/models": (volume, "rw"),
                "/recipes": (recipes, "ro"),
                # As emptyDir, and as every pod has it.
                "/tmp": (None, "size=256m"),
                "/dev/shm": (None, "size=64m"),
            },
        )

    return run


def test_its_configuration_says_what_it_is(export_image: Any) -> None:
    assert export_image.name == f"localhost/forest-serving/export:{_SERVER}"
    config = export_image.config["config"]
    assert config["User"] == "65532:65532"
    assert config["Entrypoint"] == ["python3", "-m", "model_export"]
    assert not {"ExposedPorts", "Healthcheck", "Cmd", "Volumes"} & set(config)
    environment = dict(variable.split("=", 1) for variable in config["Env"])
    assert environment["ORT_DISABLE_TELEMETRY"] == "1"
    assert config["Labels"]["forest-serving.server-version"] == _SERVER
    size = sum(layer.stat().st_size for layer in export_image.layers)
    print(f"{size / 1e6:.0f} MB above the base")
    assert len(export_image.layers) == 2


def test_its_layers_hold_what_exporting_needs_and_nothing_else(export_image: Any) -> None:
    files = {member.name for member in export_image.members() if member.isfile()}
    ours = {name.split("/")[3] for name in files if name.startswith("opt/forest/app/")}
    assert ours == {"model_bundle", "model_export"}
    assert not [name for name in files if not name.startswith("opt/forest/")]
    lock = (_ROOT / "model_export/requirements.txt").read_text()
    found = {
        match[1] for name in files if (match := re.search(r"([^/]+?)-[^/-]+\.dist-info/METADATA$", name))
    }
    locked = set(re.findall(r"^([a-z0-9-]+)==", lock, re.MULTILINE))
    assert {name.replace("_", "-").lower() for name in found} <= locked
    assert {"scikit-learn", "skl2onnx", "onnxruntime"} <= {name.replace("_", "-") for name in found}
    for member in export_image.members():
        if member.name.strip("./") and not member.issym():
            assert (member.uid, member.gid, member.mtime) == (0, 0, 0), member.name
            assert not member.mode & 0o6022, member.name
            assert member.mode & 0o444 == 0o444, member.name


def test_a_server_that_follows_the_volume_takes_what_it_exports_and_drops_no_call(
    image: Any,
    start_image: Callable[..., Any],
    export: Callable[..., Any],
    volume: Path,
    fraud_bundle: Path,
) -> None:
    said = _ended(export())
    # The same bundle as that of the same recipe anywhere else, to the last bit.
    first = digest.of_file(fraud_bundle / "manifest.json")
    assert f"digest     {first}" in said
    folder = volume / "fraud" / "1.0.0"
    for path in (folder.parent, folder, *folder.iterdir()):
        status = path.stat()
        assert (status.st_uid, status.st_gid) == (_USER, _GROUP), path
        readable = stat.S_IRGRP | (stat.S_IXGRP if path.is_dir() else 0)
        assert status.st_mode & readable == readable, path
    assert {path.name for path in folder.iterdir()} == {path.name for path in fraud_bundle.iterdir()}

    server = start_image(image, {"FOREST_WATCH": "0.1"}, mounts={"/models": (volume, "ro")})
    server.wait_for(r"[^_]SERVING on port 50051")
    assert "Uid:\t65532" in Path(f"/proc/{server.pid()}/status").read_text()
    client = server.client("follow")
    assert client.stdout.readline() == "1.0.0\n"

    second = re.search(r"digest     (\S+)", _ended(export("--version=1.1.0", "--seed=1")))[1]
    assert client.stdout.readline() == "1.1.0\n"
    server.wait_for(rf"loaded fraud 1\.1\.0 {second}")

    spoilt = volume / "fraud" / ".spoilt"
    shutil.copytree(folder, spoilt)
    manifest = json.loads((spoilt / "manifest.json").read_bytes())
    (spoilt / "manifest.json").write_text(json.dumps(manifest | {"version": "1.2.0"}))
    (spoilt / "model.onnx").write_bytes(b"half of it")
    spoilt.rename(volume / "fraud" / "1.2.0")
    server.wait_for(r"refused fraud 1\.2\.0: model.onnx: its digest is")
    # The version that answers is still the last good one.
    assert server.ask("health")["readiness"] == "SERVING"

    # A version never changes, and whoever asks for it again is told before anything is trained.
    again = export("--version=1.1.0")
    assert again.process.wait(60) == 2
    assert "version is never overwritten" in "".join(again.log)

    printed, _ = client.communicate(timeout=60)
    assert client.returncode == 0
    counted = json.loads(printed)
    assert counted["failures"] == []
    assert counted["answers"].keys() == {"1.0.0", "1.1.0"}
    print(f"{sum(counted['answers'].values())} calls answered, none dropped")
    # It never saw half a bundle: nothing but what was spoilt was refused.
    assert len([line for line in server.log if "refused fraud" in line]) == 1
    server.signal(signal.SIGTERM)


def test_a_run_that_is_ended_leaves_nothing_on_the_volume(export: Callable[..., Any], volume: Path) -> None:
    run = export("--version=1.0.0")
    run.wait_for("forest-export: trained")
    run.signal(signal.SIGTERM)
    assert run.process.wait(60) == 130
    assert "interrupted, nothing was written" in "".join(run.log)
    assert list(volume.iterdir()) == []


def _ended(container: Any) -> str:
    """Return what a container printed; it must have ended well."""
    assert container.process.wait(120) == 0, "".join(container.log)
    return container.process.stdout.read()
