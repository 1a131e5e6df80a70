"""containerd: it pulls from the node's registry alone, by plain HTTP."""

import json
import os
import time
from pathlib import Path

from tests.cluster.node import cgroup
from tests.cluster.node.binaries import binary
from tests.cluster.node.command import inside, run, succeeds
from tests.cluster.node.part import Part
from tests.cluster.node.place import CACHE, PODS, REGISTRY, ROOT

SOCKET = ROOT / "containerd.sock"
_PAUSE = "localhost/pause:1"

_CONFIG = f"""\
version = 2
root = "{ROOT}/containerd"
state = "{ROOT}/containerd-state"
[grpc]
  address = "{SOCKET}"
[ttrpc]
  address = "{SOCKET}.ttrpc"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{_PAUSE}"
  restrict_oom_score_adj = true
[plugins."io.containerd.grpc.v1.cri".cni]
  bin_dir = "/usr/lib/cni"
  conf_dir = "{ROOT}/cni"
[plugins."io.containerd.grpc.v1.cri".registry]
  config_path = "{ROOT}/registries"
"""
_CNI = {
    "cniVersion": "1.0.0",
    "name": "pods",
    "plugins": [
        {
            "type": "bridge",
            "bridge": "pods",
            "isGateway": True,
            "ipMasq": False,
            "hairpinMode": True,
            "ipam": {
                "type": "host-local",
                "ranges": [[{"subnet": PODS}]],
                "routes": [{"dst": "0.0.0.0/0"}],
                "dataDir": f"{ROOT}/addresses",
            },
        },
        {"type": "portmap", "capabilities": {"portMappings": True}},
    ],
}
_REGISTRY = f"""\
server = "http://{REGISTRY}"
[host."http://{REGISTRY}"]
  capabilities = ["pull", "resolve"]
"""


def part() -> Part:
    """Return containerd."""
    (ROOT / "containerd.toml").write_text(_CONFIG)
    (ROOT / "cni").mkdir(exist_ok=True)
    (ROOT / "cni" / "pods.conflist").write_text(json.dumps(_CNI))
    hosts = ROOT / "registries" / REGISTRY
    hosts.mkdir(parents=True, exist_ok=True)
    (hosts / "hosts.toml").write_text(_REGISTRY)
    return Part(
        "containerd",
        ("containerd", "--config", ROOT / "containerd.toml"),
        lambda: succeeds(*inside("ctr", f"--address={SOCKET}", "version")),
    )


def import_pause() -> None:
    """Give containerd the image that holds a pod's namespaces."""
    archive = CACHE / f"{binary('pause').parent.name}.tar"
    if not archive.exists():
        _build_pause(archive)
    run("ctr", f"--address={SOCKET}", "--namespace=k8s.io", "images", "import", archive)


def crash(container: str) -> None:
    """End the process of a container at once; containerd knows nothing of it before.

    Returns when the process is gone, and its connections with it: that takes it a moment.
    """
    task = ("ctr", f"--address={SOCKET}", "--namespace=k8s.io", "task")
    [process] = [int(line.split()[1]) for line in run(*task, "list").splitlines() if container in line]
    run(*task, "kill", "--signal=SIGKILL", container)
    while not cgroup.ended(process):
        time.sleep(0.001)


def _build_pause(archive: Path) -> None:
    folder = ROOT / "pause"
    folder.mkdir(exist_ok=True)
    (folder / "storage.conf").write_text(
        f'[storage]\ndriver = "vfs"\ngraphroot = "{folder}/storage"\nrunroot = "{folder}/run"\n'
    )
    (folder / "Dockerfile").write_text('FROM scratch\nCOPY pause /pause\nENTRYPOINT ["/pause"]\n')
    (folder / "pause").write_bytes(binary("pause").read_bytes())
    (folder / "pause").chmod(0o755)
    environment = os.environ | {
        "CONTAINERS_STORAGE_CONF": str(folder / "storage.conf"),
        "BUILDAH_ISOLATION": "chroot",
    }
    run("buildah", "build", "--quiet", f"--tag={_PAUSE}", folder, environment=environment)
    run("buildah", "push", "--quiet", _PAUSE, f"docker-archive:{archive}:{_PAUSE}", environment=environment)
