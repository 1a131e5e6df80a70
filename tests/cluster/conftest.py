"""Callers without a cluster, and what they call: servers by a name that changes, as a headless Service's does."""

import socket
import struct
import threading
from collections.abc import Iterator

import pytest

NAME = "fraud-forest-headless.forest-staging"
_A, _INTERNET, _NO_SUCH_NAME = 1, 1, 3


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
    seen = bootstrap(kubernetes, argocd, clone)
    system = System(kubernetes, argocd, clone, pushed)
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
