"""The life of the node: up, a part's death and return, down."""

import shutil
import sys
from collections.abc import Callable
from pathlib import Path

from tests.cluster.node import (
    apiserver,
    argocd,
    binaries,
    certificates,
    cgroup,
    controllers,
    dns,
    etcd,
    kubeconfig,
    kubelet,
    metrics,
    network,
    packages,
    proxy,
    registry,
    repository,
    runtime,
)
from tests.cluster.node.command import run
from tests.cluster.node.error import NodeError
from tests.cluster.node.part import Part, kill, start, wait
from tests.cluster.node.place import (
    ARGOCD,
    AUDIT,
    ENVIRONMENT,
    KUBECONFIG,
    MANIFESTS,
    REGISTRY,
    REPOSITORY,
    ROOT,
    VOLUME,
)

# In the order in which they can start.
_PARTS: dict[str, Callable[[], Part]] = {
    "etcd": etcd.part,
    "kube-apiserver": apiserver.part,
    "kube-controller-manager": controllers.manager,
    "kube-scheduler": controllers.scheduler,
    "containerd": runtime.part,
    "kubelet": kubelet.part,
    "kube-proxy": proxy.part,
    "coredns": dns.part,
    "metrics-server": metrics.part,
    "registry": registry.part,
    "redis": argocd.redis,
    # It makes the key that the others look for.
    "argocd-server": argocd.server,
    "argocd-repo-server": argocd.repositories,
    "argocd-application-controller": argocd.applications,
    "argocd-applicationset-controller": argocd.sets,
}
PARTS = tuple(_PARTS)


def build() -> None:
    """Build all that is slow to make, and keep it."""
    packages.required()
    binaries.build()
    for name in ("kustomize", "prometheus"):
        binaries.tool(name)


def up() -> None:
    """Make the node, and return when all of it is ready."""
    build()
    if ROOT.exists():
        raise NodeError(f"{ROOT} is there: a node runs, or was not taken down (`make cluster-down`)")
    ROOT.mkdir(mode=0o700)
    VOLUME.mkdir()
    # Whoever has the claim may write: pods run as nobody in particular.
    VOLUME.chmod(0o777)
    # This one is its group's, which the kubelet sets: root's alone until then.
    AUDIT.mkdir(mode=0o700)
    cgroup.make()
    network.make()
    certificates.make()
    kubeconfig.write("admin", KUBECONFIG)
    repository.make()

    started: dict[str, Part] = {}

    def begin(*names: str) -> None:
        for name in names:
            started[name] = _PARTS[name]()
            start(started[name])

    def ready(*names: str) -> None:
        for name in names:
            wait(started[name])

    begin("etcd", "containerd", "registry", "redis")
    ready("etcd")
    begin("kube-apiserver")
    ready("kube-apiserver", "containerd")
    begin("kube-controller-manager", "kube-scheduler", "kube-proxy", "coredns")
    runtime.import_pause()
    begin("kubelet")
    for manifest in sorted(MANIFESTS.glob("*.yaml")):
        run(*kubelet.kubectl(), "apply", "--filename", manifest)
    begin("metrics-server")
    argocd.install()
    begin("argocd-server")
    ready("argocd-server")
    begin(*(name for name in PARTS if name not in started))
    ready(*PARTS)
    ENVIRONMENT.touch(mode=0o600)
    ENVIRONMENT.write_text(_environment())


def down() -> None:
    """End and remove everything, whatever state it is in."""
    cgroup.remove()
    network.remove()
    for mount in _mounts():
        run("umount", "--lazy", mount)
    for namespace in Path("/run/netns").glob("cni-*"):
        run("ip", "netns", "delete", namespace.name)
    shutil.rmtree(ROOT, ignore_errors=True)
    if ROOT.exists():
        raise NodeError(f"{ROOT} cannot be removed: {run('ls', '-R', ROOT)[:500]}")


def end(name: str) -> None:
    """End one part at once, as a crash would."""
    kill(name)


def begin(name: str) -> None:
    """Start one part that has ended, and return when it is ready."""
    part = _PARTS[name]()
    start(part)
    wait(part)


def _mounts() -> list[str]:
    """Return what is mounted in the node's folder, the innermost first."""
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    return [place for line in reversed(lines) if (place := line.split()[4]).startswith(f"{ROOT}/")]


def _environment() -> str:
    """Return the variables by which the suite, ``kubectl``, ``argocd`` and people find what is here."""
    root = Path(__file__).parents[3]
    values = {
        "KUBECONFIG": KUBECONFIG,
        "ARGOCD_SERVER": f"http://{ARGOCD}",
        "ARGOCD_AUTH_TOKEN": argocd.token(),
        "FOREST_CLUSTER_REPOSITORY": f"file://{REPOSITORY}",
        "FOREST_CLUSTER_REGISTRY": REGISTRY,
        "FOREST_CLUSTER_NODE": f"env PYTHONPATH={root} {sys.executable} -m tests.cluster.node",
        "PATH": f"{binaries.binary('kubectl').parent}:{binaries.binary('argocd').parent}:$PATH",
    }
    return "".join(f'export {key}="{value}"\n' for key, value in values.items())
