"""What images are built with here: buildah, on a base of mmdebstrap's. A plugin of tests/conftest.py."""

import hashlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

_ROOT = Path(__file__).parents[1]
# What `make image` and `make export-image` read, besides a bundle.
_CONTEXT = (
    *("Dockerfile", ".dockerignore", "Makefile", "pyproject.toml"),
    *("server", "model_bundle", "model_export", "clients/python/forest", "clients/python/inference"),
)
# A Debian with Python and nothing that serving does not need.
_BASE = ("mmdebstrap", "--variant=minbase", "--include=python3-minimal,libpython3.11-stdlib", "bookworm")
_NO_NETWORK = (
    r"Temporary failure resolving|Could not connect|Connection refused|Failed to establish|Name or serv"
)
_TOOLS = ("buildah", "runc", "mmdebstrap", "ip", "nsenter", "make")


class UnavailableError(Exception):
    """What this machine lacks to build an image: the reason of a skip."""


def run(
    *command: str | Path, env: dict[str, str] | None = None, cwd: Path | None = None, seconds: int = 280
) -> str:
    """Return what a command prints; fail with all that it says if it fails."""
    done = subprocess.run(
        command, env=env, cwd=cwd, capture_output=True, text=True, check=False, timeout=seconds
    )
    assert done.returncode == 0, f"{command}:\n{done.stdout[-3000:]}\n{done.stderr[-6000:]}"
    return done.stdout


def prepare(folder: Path) -> dict[str, str]:
    """Return the environment in which buildah has the images `localhost/base` and `localhost/builder`.

    Parameters
    ----------
    folder : Path
        Where images are stored. What is there already is not built again.

    Raises
    ------
    UnavailableError
        If this machine cannot.
    """
    if os.geteuid() != 0:
        raise UnavailableError(
            "images are built and run as root here: buildah in a chroot, runc with cgroups"
        )
    if absent := [tool for tool in _TOOLS if not shutil.which(tool)]:
        raise UnavailableError(
            f"not here: {', '.join(absent)} (apt-get install buildah runc mmdebstrap iproute2)"
        )
    if sys.version_info[:2] != (3, 11):
        raise UnavailableError("the base made here has Python 3.11, and pip of another Python fills it")
    folder.mkdir(parents=True, exist_ok=True)
    storage = folder / "storage.conf"
    storage.write_text(f'[storage]\ndriver = ""\ngraphroot = "{folder}/storage"\nrunroot = "{folder}/run"\n')
    env = os.environ | {"CONTAINERS_STORAGE_CONF": str(storage), "BUILDAH_ISOLATION": "chroot"}
    archive = _base()
    for name, contents in (
        ("base", "FROM scratch\nADD base.tar /\n"),
        # The base has no pip; that of this very Python does, being Python alone.
        ("builder", "FROM localhost/base\nCOPY pip /usr/lib/python3/dist-packages/pip\n"),
    ):
        context = folder / name
        shutil.rmtree(context, ignore_errors=True)
        context.mkdir()
        (context / "Dockerfile").write_text(contents)
        if name == "base":
            (context / "base.tar").hardlink_to(archive)
        else:
            import pip

            assert pip.__file__
            shutil.copytree(Path(pip.__file__).parent, context / "pip")
        run(
            "buildah", "build", "--quiet", "--layers", "--timestamp=0", f"--tag=localhost/{name}", context,
            env=env,
        )  # fmt: skip
    return env


def remove(folder: Path, env: dict[str, str]) -> None:
    """Remove the images that are stored in a folder, and the folder."""
    run("buildah", "rmi", "--all", "--force", env=env)
    release(folder)
    shutil.rmtree(folder)


def release(folder: Path) -> None:
    """Undo what buildah leaves behind: its store mounted on itself."""
    if (folder / "storage/overlay").is_mount():
        run("umount", folder / "storage/overlay")


def settings(folder: Path) -> dict[str, str]:
    """Return what a build needs to be told: BASE and BUILDER made here; PIP_CONF, and CA if there is one."""
    conf = folder / "pip.conf"
    found = dict(
        line.split(".", 1)[1].split("=", 1)
        for line in run(sys.executable, "-m", "pip", "config", "list").splitlines()
    )
    values = {key: value.strip("'") for key, value in found.items()}
    lines = [f"{key} = {value}" for key, value in values.items() if key in ("index-url", "timeout", "proxy")]
    variables = {"BASE": "localhost/base", "BUILDER": "localhost/builder", "PIP_CONF": str(conf)}
    if "cert" in values:
        lines.append("cert = /run/secrets/ca.pem")
        variables["CA"] = values["cert"]
    conf.write_text("\n".join(["[global]", *lines, ""]))
    return variables


def write_context(folder: Path, bundle: Path) -> Path:
    """Copy to a folder all that `make image` reads: the bundle ``…/MODEL/VERSION``, too."""
    for name in _CONTEXT:
        source, target = _ROOT / name, folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy2(source, target)
    shutil.copytree(bundle, folder / "models" / bundle.parent.name / bundle.name)
    return folder


def _base() -> Path:
    """Return the base's archive: made once, and kept under its recipe's digest."""
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "forest-serving"
    archive = cache / f"base-{hashlib.sha256(repr(_BASE).encode()).hexdigest()[:16]}.tar"
    if not archive.exists():
        cache.mkdir(parents=True, exist_ok=True)
        partial = archive.with_name(f".{archive.stem}-{os.getpid()}.tar")
        made = subprocess.run(
            [*_BASE, str(partial)], capture_output=True, text=True, check=False, timeout=280
        )
        if made.returncode and re.search(_NO_NETWORK, made.stderr):
            raise UnavailableError(f"mmdebstrap reaches no mirror: {made.stderr.splitlines()[-1]}")
        assert made.returncode == 0, made.stderr
        partial.rename(archive)
    return archive


@pytest.fixture(scope="session")
def builder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Return the environment in which buildah has the images `localhost/base` and `localhost/builder`."""
    folder = tmp_path_factory.mktemp("buildah")
    try:
        env = prepare(folder)
    except UnavailableError as error:
        pytest.skip(str(error))
    yield env
    remove(folder, env)


@pytest.fixture(scope="session")
def build_settings(builder: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Return what a build needs to be told: BASE and BUILDER made here; PIP_CONF, and CA if there is one."""
    return settings(tmp_path_factory.mktemp("pip"))
