"""A place to work in, and the registries asked from there: a file's, and a server's on PostgreSQL."""

import json
import os
import pwd
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

import pytest

from model_export.__main__ import main
from model_export.registry.connection import connect
from model_export.registry.registry import Registry

_ROOT = Path(__file__).parents[3]
_NO_INDEX = (
    r"No matching distribution|Failed to establish a new connection|Temporary failure in name resolution"
)


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work in an empty folder, with no registry known but the one that is made there."""
    folder = tmp_path / "a place"
    folder.mkdir()
    monkeypatch.chdir(folder)
    for name in [name for name in os.environ if name.startswith("MLFLOW_")]:
        monkeypatch.delenv(name)
    return folder


@pytest.fixture(scope="session")
def empty_registry(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the file of a registry that holds nothing: to make one takes MLflow seconds."""
    file = tmp_path_factory.mktemp("empty") / "mlflow.db"
    connect(f"sqlite:///{file}", make=True)
    return file


@pytest.fixture
def begun(place: Path, empty_registry: Path) -> None:
    """Have a registry here that holds nothing."""
    (place / "mlruns").mkdir()
    shutil.copy(empty_registry, place / "mlruns")


@pytest.fixture
def bundle_of(fraud_bundle: Path, place: Path) -> Callable[..., Path]:
    """Return a function that makes a bundle of fraud of any version, and of another digest for any remark."""

    def make(version: str = "1.0.0", models: str = "models", remark: str = "") -> Path:
        folder = place / models / "fraud" / version
        shutil.copytree(fraud_bundle, folder)
        manifest = json.loads((folder / "manifest.json").read_bytes())
        manifest |= {"version": version, "description": manifest["description"] + remark}
        (folder / "manifest.json").write_text(json.dumps(manifest, indent=2, ensure_ascii=False) + "\n")
        return folder

    return make


@dataclass(frozen=True)
class Told:
    """What a command said, and how it ended."""

    status: int
    out: str
    err: str

    @property
    def run(self) -> str:
        """The id of the run that it logged."""
        return re.findall(r"^run {8}([0-9a-f]{32})$", self.out, re.MULTILINE)[-1]


@pytest.fixture
def forest_export(capsys: pytest.CaptureFixture[str]) -> Callable[..., Told]:
    """Return a function that runs ``forest-export``."""

    def run(*arguments: object) -> Told:
        capsys.readouterr()
        status = main([str(argument) for argument in arguments])
        said = capsys.readouterr()
        return Told(status, said.out, said.err)

    return run


@pytest.fixture
def registry() -> Callable[[], Registry]:
    """Return a function that opens the registry of this place."""
    return lambda: Registry(connect(None, make=True))


# --- a server on PostgreSQL


@dataclass(frozen=True)
class Postgres:
    """A PostgreSQL that listens on a socket in its own folder, and nowhere else."""

    programs: Path
    folder: Path

    @property
    def uri(self) -> str:
        return f"postgresql+psycopg2://forest@/postgres?host={self.folder}"

    def ask(self, query: str) -> str:
        """Return what a query finds, a row a line."""
        command = [self.programs / "psql", "-h", self.folder, "-U", "forest", "-d", "postgres", "-Atc", query]
        return subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout.strip()


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """Start a PostgreSQL of Debian's packages, as a user who is not root; end it afterwards."""
    installed = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[4]))
    if not installed:
        pytest.skip("PostgreSQL is not installed (Debian's package `postgresql`)")
    programs = installed[-1].parent
    # It refuses to run as root. Its socket's path is bounded to 107 bytes.
    folder = Path(tempfile.mkdtemp(prefix="forest-pg-", dir="/tmp"))
    user: dict[str, Any] = {}
    if os.geteuid() == 0:
        someone = _someone()
        os.chown(folder, someone.pw_uid, someone.pw_gid)
        user = {"user": someone.pw_uid, "group": someone.pw_gid, "extra_groups": ()}
    where: dict[str, Any] = {
        "cwd": folder,
        "stdout": subprocess.PIPE,
        "stderr": subprocess.STDOUT,
        "text": True,
    }
    process = None
    try:
        made = subprocess.run(
            [programs / "initdb", "-D", folder / "data", "-U", "forest", "--auth=trust", "--no-sync",
             "-E", "UTF8", "--no-locale"],
            check=False, timeout=120, **where, **user,
        )  # fmt: skip
        if made.returncode:
            pytest.skip(f"PostgreSQL makes no database here: {made.stdout.strip().splitlines()[-1]}")
        process = subprocess.Popen(
            [programs / "postgres", "-D", folder / "data", "-k", folder, "-c", "listen_addresses=",
             "-c", "fsync=off"],
            **where, **user,
        )  # fmt: skip
        found = Postgres(programs, folder)
        _await(process, lambda: _answers(found), "PostgreSQL does not start here")
        yield found
    finally:
        if process is not None:
            process.send_signal(signal.SIGINT)
            process.wait(60)
        shutil.rmtree(folder, ignore_errors=True)


def _someone() -> pwd.struct_passwd:
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    return pytest.skip("there is no user but root, and PostgreSQL refuses to run as that")


def _answers(postgres: Postgres) -> bool:
    try:
        return postgres.ask("select 1") == "1"
    except subprocess.CalledProcessError:
        return False


def _await(
    process: subprocess.Popen[str], ready: Callable[[], bool], fault: str, seconds: float = 120
) -> None:
    deadline = time.monotonic() + seconds
    while not ready():
        if process.poll() is not None:
            assert process.stdout is not None
            pytest.skip(f"{fault}: {process.stdout.read().strip().splitlines()[-1:]}")
        assert time.monotonic() < deadline, fault
        time.sleep(0.2)


@pytest.fixture(scope="session")
def mlflow_program() -> Path:
    """Return the command ``mlflow`` of MLflow's own server, in a virtual environment that is kept."""
    make = ["make", "mlflow", f"PYTHON={sys.executable}"]
    made = subprocess.run(make, cwd=_ROOT, capture_output=True, text=True, timeout=800, check=False)
    if made.returncode and re.search(_NO_INDEX, made.stderr):
        pytest.skip(f"pip reaches no package index: {made.stderr.splitlines()[-1]}")
    assert made.returncode == 0, made.stderr
    return _ROOT / ".venv-mlflow" / "bin" / "mlflow"


@dataclass(frozen=True)
class TrackingServer:
    """MLflow's tracking server, in processes of its own."""

    uri: str
    postgres: Postgres
    artifacts: Path


@pytest.fixture(scope="session")
def tracking_server(
    mlflow_program: Path, postgres: Postgres, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[TrackingServer]:
    """Start MLflow's tracking server on that PostgreSQL; end it afterwards."""
    folder = tmp_path_factory.mktemp("tracking-server")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [
        mlflow_program, "server", "--backend-store-uri", postgres.uri, "--artifacts-destination",
        folder / "artifacts", "--host", "127.0.0.1", "--port", str(port), "--workers", "1",
    ]  # fmt: skip
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")}
    log = folder / "log"
    with log.open("w") as file:
        process = subprocess.Popen(
            command,
            cwd=folder,
            # Its own jobs take more memory and time than all that is asked of it.
            env={
                **environment,
                **{"MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true"},
                "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
            },
            stdout=file,
            stderr=subprocess.STDOUT,
            # With all the processes that it starts.
            start_new_session=True,
        )
    try:
        deadline = time.monotonic() + 240
        while not _healthy(port):
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.5)
        yield TrackingServer(f"http://127.0.0.1:{port}", postgres, folder / "artifacts")
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _healthy(port: int) -> bool:
    try:
        with urlopen(f"http://127.0.0.1:{port}/health", timeout=5) as answer:
            return bool(answer.status == 200)
    except (URLError, OSError):
        return False
