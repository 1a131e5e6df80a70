"""What the node needs of the machine."""

import os
import shutil
from pathlib import Path

from tests.cluster.node.command import run
from tests.cluster.node.error import NodeError

_TOOLS = {
    "go": "Go 1.26 or newer: https://go.dev/dl",
    "git": "git",
    "openssl": "openssl",
    "buildah": "buildah",
    "containerd": "containerd",
    "ctr": "containerd",
    "runc": "runc",
    "/usr/lib/cni/bridge": "containernetworking-plugins",
    "redis-server": "redis-server",
    "nft": "nftables",
    "iptables": "iptables",
    "conntrack": "conntrack",
    "ip": "iproute2",
    "nsenter": "util-linux",
    "mmdebstrap": "mmdebstrap",
}


def absent() -> str:
    """Return what keeps the node from being made here, as one sentence; empty if nothing does."""
    if os.geteuid() != 0:
        return "a node is made by root"
    path = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
    if missing := [tool for tool in _TOOLS if not shutil.which(tool, path=path)]:
        wanted = sorted({_TOOLS[tool] for tool in missing})
        return f"not here: {', '.join(missing)}. Install (names of Debian's packages): {' '.join(wanted)}"
    return _forbidden()


def _forbidden() -> str:
    """Try what a container that only looks like a machine does not allow."""
    name = f"forest-check-{os.getpid()}"
    try:
        run("ip", "netns", "add", name)
        try:
            cable = f"forest-{os.getpid()}"
            run("ip", "link", "add", cable, "type", "veth", "peer", "name", "eth0", "netns", name)
            run("ip", "netns", "exec", name, "nft", "add", "table", "inet", "forest")
        finally:
            run("ip", "netns", "delete", name)
    except NodeError as error:
        return f"this machine does not allow a network of one's own: {error}"
    mounted = Path("/sys/fs/cgroup")
    groups = [path for path in (mounted, *mounted.glob("*")) if os.access(path / "cgroup.procs", os.W_OK)]
    return "" if groups else "no cgroup of this machine can be written to"


def required() -> None:
    """Raise `NodeError` if something is absent."""
    if reason := absent():
        raise NodeError(reason)
