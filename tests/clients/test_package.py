import shutil
import subprocess
import sys
from pathlib import Path
from zipfile import ZipFile

CLIENT = Path(__file__).parents[2] / "clients" / "python"


def test_the_wheel_holds_stubs_types_and_service_config(tmp_path):
    shutil.copytree(CLIENT, tmp_path / "source", ignore=shutil.ignore_patterns("build", "*.egg-info"))
    subprocess.run(
        [sys.executable, "-c", "from setuptools.build_meta import build_wheel; build_wheel('..')"],
        cwd=tmp_path / "source",
        check=True,
        capture_output=True,
    )
    (wheel,) = tmp_path.glob("*.whl")
    held = {name for name in ZipFile(wheel).namelist() if ".dist-info/" not in name}
    source = {
        str(path.relative_to(CLIENT))
        for folder in ("forest", "forest_client", "inference")
        for path in (CLIENT / folder).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert held == source
