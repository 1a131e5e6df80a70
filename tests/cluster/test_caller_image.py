"""The caller's image under runc, as Kubernetes runs a restricted pod."""

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.accounting import account, said
from tests.image_builder import run

_ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def image(builder: dict[str, str], build_settings: dict[str, str]) -> str:
    """Return the name of the caller's image, built as its Containerfile says."""
    settings = {**build_settings}
    secrets = [f"--secret=id=pip.conf,src={settings.pop('PIP_CONF')}"]
    if "CA" in settings:
        secrets.append(f"--secret=id=ca.pem,src={settings.pop('CA')}")
    run(
        *("buildah", "build", "--quiet", "--timestamp=0", "--tag=localhost/caller"),
        *(f"--build-arg={name}={value}" for name, value in settings.items()),
        *secrets,
        f"--build-context=client={_ROOT / 'clients/python'}",
        _ROOT / "tests/cluster/caller",
        env=builder,
    )
    return "localhost/caller"


@pytest.fixture
def bundle(image: str, builder: dict[str, str], tmp_path: Path) -> Iterator[Path]:
    """Return a folder that runc runs the image by; what it calls is on this machine's loopback."""
    config = json.loads(run("buildah", "inspect", "--type=image", image, env=builder))["OCIv1"]["config"]
    container = run("buildah", "from", image, env=builder).strip()
    specification = {
        "ociVersion": "1.0.2",
        "root": {"path": run("buildah", "mount", container, env=builder).strip(), "readonly": True},
        "process": {
            "args": config["Entrypoint"],
            "env": config["Env"],
            "cwd": config["WorkingDir"],
            "user": dict(zip(("uid", "gid"), map(int, config["User"].split(":")), strict=True)),
            "capabilities": {},
            "noNewPrivileges": True,
        },
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc"},
            {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755"]},
        ],
        "linux": {
            "namespaces": [{"type": name} for name in ("pid", "ipc", "uts", "mount")],
            "resources": {"memory": {"limit": 256 * 2**20, "swap": 256 * 2**20}},
        },
    }
    (tmp_path / "config.json").write_text(json.dumps(specification))
    yield tmp_path
    run("buildah", "rm", container, env=builder)


def test_it_calls_as_a_restricted_pod_and_ends_as_process_1_is_told(
    bundle: Path, pods: Any, versions: dict[str, Path], start_caller: Callable[..., Any]
) -> None:
    servers = [pods.start(folder) for folder in versions.values()]
    specification = json.loads((bundle / "config.json").read_bytes())
    specification["process"]["args"] += [pods.target, "--rate=100"]
    (bundle / "config.json").write_text(json.dumps(specification))
    name, runc = f"caller-{os.getpid()}", ("runc", "--root", str(bundle / "runc"))
    caller = start_caller(command=(*runc, "run", "--bundle", str(bundle), name))
    caller.wait_for(" OK 1.0.0 ", 50)
    caller.wait_for(" OK 1.1.0 ", 50)
    state = json.loads(run(*runc, "state", name))
    status = Path(f"/proc/{state['pid']}/status").read_text().splitlines()
    assert "Uid:\t65532\t65532\t65532\t65532" in status
    assert "CapEff:\t0000000000000000" in status
    log = caller.end(*runc, "kill", name, "TERM")

    found = account(log, [each for server in servers for each in said(server.release, [])])
    assert found.faultless, found
    assert set(found.answers) == {server.release for server in servers}


def test_the_image_holds_the_client_as_it_is_here_and_can_write_nothing(
    image: str, builder: dict[str, str]
) -> None:
    container = run("buildah", "from", image, env=builder).strip()
    root = Path(run("buildah", "mount", container, env=builder).strip(), "opt/caller")
    for source, target in (
        (_ROOT / "clients/python/forest", "app/forest"),
        (_ROOT / "clients/python/forest_client", "app/forest_client"),
        (_ROOT / "tests/cluster/caller", "app/caller"),
    ):
        held = {path for path in (root / target).rglob("*") if path.is_file() and path.suffix != ".pyc"}
        assert held
        for path in held:
            assert path.read_bytes() == (source / path.relative_to(root / target)).read_bytes()
    assert not [path for path in root.rglob("*") if path.stat().st_mode & 0o022]
    run("buildah", "rm", container, env=builder)
