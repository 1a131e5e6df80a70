"""What the node runs: built from Go modules, and kept under the digest of what they are built from."""

import hashlib
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from tests.cluster.node.command import run
from tests.cluster.node.place import CACHE

_MODULES = Path(__file__).parent / "modules"
_KUBERNETES = "1.34.4"
_ARGOCD = "3.2.11"
_VERSION = "k8s.io/component-base/version"


@dataclass(frozen=True, slots=True)
class _Module:
    """A folder of `modules`, and which packages become which binaries."""

    name: str
    packages: dict[str, str]
    variables: tuple[str, ...] = ()
    # Folders of the named dependency that are kept beside the binaries.
    dependency: str = ""
    kept: tuple[str, ...] = ()


_ALL = (
    _Module(
        "kubernetes",
        {
            name: f"k8s.io/kubernetes/cmd/{name}"
            for name in (
                "kube-apiserver",
                "kube-controller-manager",
                "kube-scheduler",
                "kubelet",
                "kube-proxy",
                "kubectl",
            )
        },
        (
            f"{_VERSION}.gitVersion=v{_KUBERNETES}",
            f"{_VERSION}.gitMajor=1",
            f"{_VERSION}.gitMinor={_KUBERNETES.split('.')[1]}",
        ),
    ),
    _Module(
        "argocd",
        {"argocd": "github.com/argoproj/argo-cd/v3/cmd"},
        (f"github.com/argoproj/argo-cd/v3/common.version={_ARGOCD}",),
        "github.com/argoproj/argo-cd/v3",
        ("manifests/crds", "manifests/base/config"),
    ),
    _Module("etcd", {"etcd": "go.etcd.io/etcd/server/v3"}),
    _Module("metrics-server", {"metrics-server": "sigs.k8s.io/metrics-server/cmd/metrics-server"}),
    _Module("coredns", {"coredns": "."}),
    _Module("registry", {"registry": "github.com/distribution/distribution/v3/cmd/registry"}),
    _Module("pause", {"pause": "."}),
)


def build() -> None:
    """Build what is not there yet, one module after the other."""
    for module in _ALL:
        _built(module)


def binary(name: str) -> Path:
    """Return a binary; it must have been built."""
    return next(_folder(module) / name for module in _ALL if name in module.packages)


def kept(name: str, folder: str) -> Path:
    """Return a folder that was kept of a module's dependency."""
    return next(_folder(module) / folder for module in _ALL if module.name == name)


def tool(name: str) -> Path:
    """Return a program that CI has too, or may have, as its script builds it once."""
    script = Path(__file__).parents[3] / ".ci" / "tool"
    return Path(run(script, name, seconds=3600).strip()) / name


def _folder(module: _Module) -> Path:
    sources = sorted((_MODULES / module.name).glob("*"))
    digest = hashlib.sha256(repr((module.packages, module.variables, module.kept)).encode())
    for source in sources:
        digest.update(source.name.encode() + b"\0" + source.read_bytes())
    return CACHE / f"{module.name}-{digest.hexdigest()[:16]}"


def _built(module: _Module) -> None:
    target = _folder(module)
    if target.exists():
        return
    print(f"building {module.name}: {', '.join(module.packages)}", flush=True)
    partial = CACHE / f".{target.name}-{os.getpid()}"
    partial.mkdir(parents=True)
    environment = os.environ | {"CGO_ENABLED": "0", "GOFLAGS": "-mod=readonly", "GOWORK": "off"}
    flags = " ".join(["-s", "-w", *(f"-X {variable}" for variable in module.variables)])
    source = _MODULES / module.name
    # One build for all packages of a module: what they share is linked at the same time, by all cores.
    whole = partial / "bin"
    whole.mkdir()
    one = len(module.packages) == 1
    run(
        "go", "build", "-buildvcs=false", "-trimpath", f"-ldflags={flags}",
        "-o", whole / next(iter(module.packages)) if one else f"{whole}/", *module.packages.values(),
        environment=environment, folder=source, seconds=3600,
    )  # fmt: skip
    for name in module.packages:
        (whole / name).rename(partial / name)
    whole.rmdir()
    if module.kept:
        found = run(
            "go", "list", "-m", "-f", "{{.Dir}}", module.dependency, environment=environment, folder=source
        )
        for folder in module.kept:
            shutil.copytree(Path(found.strip()) / folder, partial / folder, copy_function=shutil.copyfile)
    partial.rename(target)
