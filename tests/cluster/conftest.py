"""Callers without a cluster, and what they call: servers by a name, as that of a headless Service."""

import json
import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from gitops.layout import PROD, STAGING
from model_export.export import Exported
from tests.cluster import bad_release
from tests.cluster import setting as given
from tests.cluster.accounting import Log, Release, read_log
from tests.cluster.argocd import ArgoCD
from tests.cluster.bad_release import WAITED_FOR, BadRelease
from tests.cluster.bootstrap import Bootstrap, bootstrap
from tests.cluster.clients import start as start_clients
from tests.cluster.clone import Clone
from tests.cluster.images import Images
from tests.cluster.kubernetes import Kubernetes
from tests.cluster.level import Level
from tests.cluster.level import change as change_level
from tests.cluster.machine import Machine
from tests.cluster.observers import start_collector, start_prometheus
from tests.cluster.scaling import Scaling
from tests.cluster.setting import Setting
from tests.cluster.system import System
from tests.image_builder import UnavailableError

_CALLER = Path(__file__).with_name("caller")
_CLIENT = Path(__file__).parents[2] / "clients" / "python"
# A story: what comes first makes what is changed later, and the last one counts what clients saw of it all.
_ORDER = (
    "bootstrap",
    "guard_rails",
    "release",
    "promotion",
    "rollback",
    "autoscaling",
    # While staging's autoscaler waits for a minute before it takes pods away.
    "rollback_in_production",
    "rollback_in_the_ui",
    # The kubelet takes a minute to bring it to the pods.
    "log_level",
    "autoscaling_end",
    "hands_off",
    "bad_release",
    "log_level_end",
    # While staging has a release that does not come up, which takes two minutes to be told for certain.
    "hands_off_in_production",
    "disruption_in_production",
    "audit",
    "model_volume",
    "monitoring",
    "bad_release_deadline",
    "disruption",
    "soak",
    "metrics",
    "traces",
    "calls",
)
NAME = "fraud-forest-headless.forest-staging"
_A, _INTERNET, _NO_SUCH_NAME = 1, 1, 3
# Connections age in a second where those of pods take ten.
_LIFE = ("--max-connection-age", "1", "--max-connection-age-grace", "2", "--drain-timeout", "2.5")


class Resolver:
    """A DNS server on loopback that knows one name, and as its addresses whatever it is told.

    Attributes
    ----------
    addresses : list of str
        What the name stands for.
    """

    def __init__(self) -> None:
        self.addresses: list[str] = []
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self._thread = threading.Thread(target=self._answer, daemon=True)
        self._thread.start()

    def target(self, port: int) -> str:
        """Return what a client calls: it asks this server and no other."""
        return f"dns://127.0.0.1:{self._socket.getsockname()[1]}/{NAME}:{port}"

    def close(self) -> None:
        """Answer no more."""
        self._socket.close()

    def _answer(self) -> None:
        while True:
            try:
                query, peer = self._socket.recvfrom(512)
                self._socket.sendto(self._response(query), peer)
            except OSError:
                return

    def _response(self, query: bytes) -> bytes:
        """Return the answer to a query of one question (RFC 1035, section 4)."""
        labels, place = [], 12
        while query[place]:
            labels.append(query[place + 1 : place + 1 + query[place]].decode())
            place += 1 + query[place]
        question = query[12 : place + 5]
        kind, _ = struct.unpack("!HH", question[-4:])
        known = ".".join(labels).lower() == NAME
        addresses = self.addresses if known and kind == _A else []
        flags = 0x8580 | (0 if known else _NO_SUCH_NAME)
        header = query[:2] + struct.pack("!HHHHH", flags, 1, len(addresses), 0, 0)
        # Each record's name is the question's, which begins at byte 12. No one is to remember it: TTL 0.
        records = (
            b"\xc0\x0c" + struct.pack("!HHIH", _A, _INTERNET, 0, 4) + socket.inet_aton(address)
            for address in tuple(addresses)
        )
        return header + question + b"".join(records)


@pytest.fixture
def resolver() -> Iterator[Resolver]:
    """Return a DNS server."""
    server = Resolver()
    yield server
    server.close()


class CallerProcess:
    """The caller in a process of its own, here or in a container.

    Attributes
    ----------
    lines : list of str
        What it has written so far.
    """

    def __init__(self, *command: str):
        self.lines: list[str] = []
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def wait_for(self, text: str, lines: int = 1) -> None:
        """Wait until so many more lines have a text in them."""
        seen = len(self.lines)
        deadline = time.monotonic() + 30
        while sum(text in line for line in self.lines[seen:]) < lines:
            assert time.monotonic() < deadline, f"no {text!r} after line {seen}:\n{''.join(self.lines[-5:])}"
            time.sleep(0.02)

    def end(self, *command: str) -> Log:
        """Tell it to end, by a command if one is given; return its log."""
        if command:
            subprocess.run(command, check=True)
        else:
            self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(30) == 0
        self._reader.join()
        return read_log(self.lines)

    def kill(self) -> None:
        """End it at once, if it has not ended."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self._reader.join()

    def _read(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as lines:
            for line in lines:
                self.lines.append(line)


@pytest.fixture
def start_caller() -> Iterator[Callable[..., CallerProcess]]:
    """Return a function that starts a caller: its arguments, or the command of one elsewhere."""
    started: list[CallerProcess] = []

    def start(*arguments: str, command: tuple[str, ...] = ()) -> CallerProcess:
        command = command or (sys.executable, "-m", "tests.cluster.caller")
        process = CallerProcess(*command, *arguments)
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()


class Pods:
    """Servers of one port on addresses of loopback, and the name that stands for those that are ready."""

    def __init__(self, start_server: Callable[..., Any], resolver: Resolver):
        self._start_server = start_server
        self._resolver = resolver
        with socket.create_server(("", 0)) as probe:
            self._port = probe.getsockname()[1]
        self._started = 0

    @property
    def target(self) -> str:
        """What a client calls."""
        return self._resolver.target(self._port)

    def start(self, models: Path, *flags: str) -> Any:
        """Start a server with an address and a release, and let the name stand for it too."""
        pod = self._start(models, *flags)
        self._resolver.addresses = [*self._resolver.addresses, pod.address]
        return pod

    def end(self, pod: Any) -> None:
        """Let the name stand for a server no more, and have it leave, drain and end."""
        self._resolver.addresses = [each for each in self._resolver.addresses if each != pod.address]
        assert pod.stop() == 0

    def replace(self, old: Sequence[Any], models: Path, *flags: str) -> list[Any]:
        """End all servers at the same instant: from then on the name stands for as many new ones."""
        new = [self._start(models, *flags) for _ in old]
        self._resolver.addresses = [pod.address for pod in new]
        for pod in old:
            pod.process.send_signal(signal.SIGTERM)
        for pod in old:
            assert pod.process.wait(60) == 0
        return new

    def _start(self, models: Path, *flags: str) -> Any:
        self._started += 1
        address = f"127.0.0.{self._started + 1}"
        pod = self._start_server(models, "--host", address, "--port", str(self._port), *_LIFE, *flags)
        pod.address = address
        pod.release = Release(*pod.wait_for(r"loaded fraud (\S+ sha256:\w+)").split())
        return pod


@pytest.fixture
def pods(start_server: Callable[..., Any], resolver: Resolver) -> Pods:
    """Return what starts and ends servers as a Deployment does."""
    return Pods(start_server, resolver)


@pytest.fixture
def versions(fraud_bundle: Path, tmp_path: Path) -> dict[str, Path]:
    """Return two models folders by version: the same forest in bundles of other digests."""
    folders = {}
    for version in ("1.0.0", "1.1.0"):
        folder = tmp_path / version / "fraud" / version
        shutil.copytree(fraud_bundle, folder)
        manifest = json.loads((folder / "manifest.json").read_bytes())
        (folder / "manifest.json").write_text(json.dumps(manifest | {"version": version}))
        folders[version] = folder.parents[1]
    return folders


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add `--soak`."""
    parser.addoption("--soak", action="store_true", help="tests/cluster: also what takes an hour")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the tests that need a cluster into the story's order."""
    here = Path(__file__).parent
    names = [f"test_{name}.py" for name in _ORDER]
    ours = [item for item in items if item.path.parent == here and item.path.name in names]
    ordered = iter(sorted(ours, key=lambda item: names.index(item.path.name)))
    for item in ours:
        # The first one waits for images and for both environments.
        if not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(900))
        item.add_marker(pytest.mark.cluster)
    items[:] = [next(ordered) if item in ours else item for item in items]


_BUNDLES = {"1.0.0": 0, "1.1.0": 1}


@pytest.fixture(scope="session")
def setting() -> Setting:
    """Return where the cluster is."""
    try:
        return given.read()
    except given.AbsentError as absent:
        pytest.skip(str(absent))


@pytest.fixture(scope="session")
def images(setting: Setting, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Images]:
    """Return what builds images and pushes them."""
    try:
        found = Images(setting, tmp_path_factory.mktemp("images"))
    except UnavailableError as error:
        pytest.skip(str(error))
    yield found
    found.close()


@pytest.fixture(scope="session")
def bundles(
    fraud_export: Callable[..., Exported], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Path]:
    """Return bundles of the fraud model, by version; of 1.3.0 there are two that differ."""
    models = tmp_path_factory.mktemp("bundles")
    found = {
        version: fraud_export(models=models, version=version, seed=seed).folder
        for version, seed in _BUNDLES.items()
    }
    for version in ("1.2.0", "1.3.0", "1.4.0"):
        found[version] = fraud_export(models=models, version=version, seed=2).folder
    others = tmp_path_factory.mktemp("others")
    found["another 1.3.0"] = fraud_export(models=others, version="1.3.0", seed=3).folder
    return found


@pytest.fixture
def soak(request: pytest.FixtureRequest) -> bool:
    """Return whether to do also what takes an hour."""
    return bool(request.config.getoption("--soak"))


@pytest.fixture(scope="session")
def started(
    setting: Setting, images: Images, bundles: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[System, Bootstrap]]:
    """Return both environments, made from nothing, and what was seen when they were; clients call them."""
    kubernetes = Kubernetes(os.environ)
    argocd = ArgoCD(setting.argocd, setting.token)
    pushed = {version: images.build(bundles[version]) for version in _BUNDLES}
    clone = Clone(tmp_path_factory.mktemp("clone"), setting)
    clone.begin(pushed["1.0.0"])
    start_collector(kubernetes, pushed["1.0.0"].release.reference)
    seen = bootstrap(kubernetes, argocd, clone)
    system = System(kubernetes, argocd, clone, pushed)
    system.prometheus = start_prometheus(kubernetes, images, tmp_path_factory.mktemp("prometheus"))
    system.follow()
    caller = images.build_file(
        _CALLER, _CALLER / "Containerfile", "caller", f"--build-context=client={_CLIENT}"
    )
    system.clients += start_clients(kubernetes, caller, (STAGING, PROD), tmp_path_factory.mktemp("calls"))
    yield system, seen
    system.close()


@pytest.fixture
def system(started: tuple[System, Bootstrap]) -> System:
    """Return both environments."""
    return started[0]


@pytest.fixture(scope="session")
def begun(started: tuple[System, Bootstrap]) -> Bootstrap:
    """Return what was seen when they were made."""
    return started[1]


@pytest.fixture(scope="session")
def scaling(started: tuple[System, Bootstrap]) -> Iterator[Scaling]:
    """Return staging as it is with its fewest pods, and looked at from then on."""
    system = started[0]
    system.bring(STAGING, "1.1.0")
    found = Scaling(system)
    found.wait_for(2, seconds=180)
    yield found
    found.end()


@pytest.fixture
def machine(setting: Setting) -> Machine:
    """Return what ends parts of the control plane."""
    if not setting.node:
        pytest.skip("FOREST_CLUSTER_NODE names no command that may end parts of the control plane")
    return Machine(setting.node)


@pytest.fixture(scope="session")
def level(started: tuple[System, Bootstrap]) -> Level:
    """Return the change of production's log level."""
    return change_level(started[0])


@pytest.fixture(scope="session")
def waited_for(started: tuple[System, Bootstrap], images: Images, bundles: dict[str, Path]) -> BadRelease:
    """Return a release that does not come up: staging has it until a test rolls it back."""
    return bad_release.release(started[0], images, bundles, WAITED_FOR)
