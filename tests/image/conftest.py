"""An image, built by `make image` on a base made here, and containers of it under runc."""

import json
import os
import re
import signal
import subprocess
import sys
import tarfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest

from tests import image_builder
from tests.image_builder import run

_ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def write_context(fraud_bundle: Path) -> Callable[[Path], Path]:
    """Return a function that copies to a folder all that `make image` reads, the fraud bundle too."""
    return lambda folder: image_builder.write_context(folder, fraud_bundle)


@pytest.fixture(scope="session")
def settings(build_settings: dict[str, str]) -> dict[str, str]:
    """Return the variables of `make image`."""
    return {"MODEL": "fraud", "VERSION": "1.0.0", "ENGINE": "buildah", **build_settings}


@dataclass(frozen=True)
class Image:
    """An image as pushed to a folder: its layers are tar archives there.

    Attributes
    ----------
    name : str
        Its repository and tag.
    said : str
        What `make image` said.
    sbom : Path
        The file written beside it.
    config : dict
        The image's configuration.
    layers : list of Path
        Those above the base's, lowest first, uncompressed.
    base_size : int
        Bytes of the base's layer, uncompressed.
    root : Path
        The image's files, all layers together.
    """

    name: str
    said: str
    sbom: Path
    config: dict[str, Any]
    layers: list[Path]
    base_size: int
    root: Path

    def members(self) -> Iterator[tarfile.TarInfo]:
        """Return every file and folder of our layers."""
        for layer in self.layers:
            with tarfile.open(layer) as archive:
                yield from archive


@pytest.fixture(scope="session")
def push(builder: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Any]:
    """Return a function that gives an image's configuration and the archives of its layers."""

    def into_folder(name: str) -> tuple[dict[str, Any], list[Path]]:
        folder = tmp_path_factory.mktemp("pushed")
        run("buildah", "push", "--quiet", "--disable-compression", name, f"dir:{folder}", env=builder)
        manifest = json.loads((folder / "manifest.json").read_bytes())
        config = json.loads((folder / manifest["config"]["digest"].removeprefix("sha256:")).read_bytes())
        return config, [folder / layer["digest"].removeprefix("sha256:") for layer in manifest["layers"]]

    return into_folder


@pytest.fixture(scope="session")
def image(
    builder: dict[str, str],
    settings: dict[str, str],
    write_context: Callable[[Path], Path],
    push: Callable[[str], Any],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Image]:
    """Return the image of the fraud bundle."""
    context = write_context(tmp_path_factory.mktemp("context"))
    started = time.monotonic()
    said = run(
        "make",
        "--no-print-directory",
        "image",
        *(f"{key}={value}" for key, value in settings.items()),
        env=builder,
        cwd=context,
    )
    print(f"make image: {time.monotonic() - started:.0f} s")
    name, _, sbom = said.splitlines()[-3:]
    config, layers = push(name)
    with _mounted(name, builder) as root:
        yield Image(name, said, context / sbom.split()[1], config, layers[1:], layers[0].stat().st_size, root)


@pytest.fixture(scope="session")
def export_image(
    builder: dict[str, str],
    build_settings: dict[str, str],
    write_context: Callable[[Path], Path],
    push: Callable[[str], Any],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Image]:
    """Return the image that makes bundles. It has no SBOM."""
    context = write_context(tmp_path_factory.mktemp("context"))
    variables = ("ENGINE=buildah", *(f"{key}={value}" for key, value in build_settings.items()))
    # Four times as many packages as the server's.
    said = run(
        "make", "--no-print-directory", "export-image", *variables, env=builder, cwd=context, seconds=800
    )
    name = said.splitlines()[-1]
    config, layers = push(name)
    with _mounted(name, builder) as root:
        yield Image(name, said, Path(), config, layers[1:], layers[0].stat().st_size, root)


@contextmanager
def _mounted(name: str, builder: dict[str, str]) -> Iterator[Path]:
    """Give an image's files, all layers together."""
    container = run("buildah", "from", name, env=builder).strip()
    yield Path(run("buildah", "mount", container, env=builder).strip())
    run("buildah", "rm", container, env=builder)


class Container:
    """An image under runc as Kubernetes runs a restricted pod, in a network of its own that leads nowhere.

    0.5 CPU, 512 MiB, no capabilities, no new privileges, a read-only root.

    Parameters
    ----------
    image : Image
    folder : Path
        For what runc needs.
    environment : dict
        Variables beside the image's own.
    arguments : sequence of str
        What the entry point is given.
    user : int, optional
        Instead of the image's own.
    mounts : dict
        Folders of this machine, by where they are seen, each with its options; None is a tmpfs.
    """

    def __init__(
        self,
        image: Image,
        folder: Path,
        environment: dict[str, str],
        *,
        arguments: Sequence[str] = (),
        user: int | None = None,
        mounts: Mapping[str, tuple[Path | None, str]] = MappingProxyType({}),
    ):
        self.id = f"forest-{os.getpid()}-{folder.name}"
        self._network = Path("/run/netns") / self.id
        self._folder = folder
        config = image.config["config"]
        limits = {
            "cpu": {"quota": 50_000, "period": 100_000},
            "memory": {"limit": 512 * 2**20, "swap": 512 * 2**20},
        }
        spaces = [{"type": name} for name in ("pid", "ipc", "uts", "mount")]
        specification = {
            "ociVersion": "1.0.2",
            "root": {"path": str(image.root), "readonly": True},
            "process": {
                "args": [*config["Entrypoint"], *arguments],
                "env": config["Env"] + [f"{key}={value}" for key, value in environment.items()],
                "cwd": config["WorkingDir"],
                "user": dict(zip(("uid", "gid"), map(int, config["User"].split(":")), strict=True))
                | ({} if user is None else {"uid": user}),
                "capabilities": {},
                "noNewPrivileges": True,
            },
            "mounts": [
                {"destination": "/proc", "type": "proc", "source": "proc"},
                {
                    "destination": "/dev",
                    "type": "tmpfs",
                    "source": "tmpfs",
                    "options": ["nosuid", "mode=755"],
                },
                *(
                    {
                        "destination": place,
                        "type": "tmpfs",
                        "source": "tmpfs",
                        "options": ["mode=1777", option],
                    }
                    if source is None
                    else {
                        "destination": place,
                        "type": "bind",
                        "source": str(source),
                        "options": ["bind", option],
                    }
                    for place, (source, option) in mounts.items()
                ),
            ],
            "linux": {
                "namespaces": [*spaces, {"type": "network", "path": str(self._network)}],
                "cgroupsPath": f"/{self.id}",
                "resources": limits,
                "maskedPaths": ["/proc/kcore", "/proc/keys"],
                "readonlyPaths": ["/proc/sys", "/proc/sysrq-trigger", "/proc/irq", "/proc/bus"],
            },
        }
        (folder / "config.json").write_text(json.dumps(specification))
        run("ip", "netns", "add", self.id)
        run("ip", "-n", self.id, "link", "set", "lo", "up")
        self.log: list[str] = []
        self.started = time.monotonic()
        self.process = subprocess.Popen(
            ["runc", "--root", folder / "runc", "run", "--bundle", folder, self.id],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE if arguments else None,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def wait_for(self, pattern: str, seconds: float = 60) -> re.Match[str]:
        """Return the match of a pattern when a line of the log has it."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and (self.process.poll() is None or self._reader.is_alive()):
            for line in tuple(self.log):
                if match := re.search(pattern, line):
                    return match
            time.sleep(0.02)
        raise AssertionError(f"no {pattern!r} in the container's log:\n{''.join(self.log)}")

    def client(self, *arguments: str | Path) -> subprocess.Popen[str]:
        """Start ``client.py`` in the container's network."""
        return subprocess.Popen(
            [
                *("nsenter", f"--net={self._network}", sys.executable),
                *(str(Path(__file__).with_name("client.py")), *map(str, arguments)),
            ],
            env=os.environ | {"PYTHONPATH": str(_ROOT / "clients/python")},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def ask(self, *arguments: str | Path) -> Any:
        """Return what ``client.py`` found."""
        with self.client(*arguments) as client:
            printed, _ = client.communicate(timeout=100)
        assert client.returncode == 0
        return json.loads(printed)

    def execute(self, script: str) -> str:
        """Run a script by the image's own Python in the container."""
        return run("runc", "--root", self._folder / "runc", "exec", self.id, "python3", "-c", script)

    def pid(self) -> int:
        """Return the server's process id, as this machine sees it."""
        state = json.loads(run("runc", "--root", self._folder / "runc", "state", self.id))
        return int(state["pid"])

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the server."""
        run("runc", "--root", self._folder / "runc", "kill", self.id, number.name)

    def close(self) -> None:
        """End it, if it has not ended, and remove its network."""
        if self.process.poll() is None:
            self.signal(signal.SIGKILL)
            self.process.wait(30)
        self._reader.join(10)
        run("ip", "netns", "delete", self.id)

    def _read(self) -> None:
        assert self.process.stderr is not None
        with self.process.stderr as lines:
            for line in lines:
                self.log.append(line)


@pytest.fixture(scope="session")
def start_image(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Container]]:
    """Return a function that starts a container of an image."""
    started: list[Container] = []

    def run_image(image: Image, environment: dict[str, str], **options: Any) -> Container:
        container = Container(image, tmp_path_factory.mktemp("container"), environment, **options)
        started.append(container)
        return container

    yield run_image
    for container in started:
        container.close()


@pytest.fixture(scope="session")
def start(image: Image, start_image: Callable[..., Container]) -> Callable[..., Container]:
    """Return a function that starts a container of the image, with variables beside its own."""
    return lambda **environment: start_image(image, environment)
