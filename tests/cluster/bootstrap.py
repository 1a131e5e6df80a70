"""From an empty Argo CD to both environments, by the root Application alone."""

import time
from dataclasses import dataclass

import yaml

from gitops.layout import KUSTOMIZE, PROD, STAGING
from gitops.rendering import render
from tests.cluster.argocd import ArgoCD
from tests.cluster.clone import MODEL, Clone
from tests.cluster.kubernetes import Kubernetes, Object, until
from tests.cluster.volume import claim

# What the root Application needs to be allowed to make the rest.
_ROOT = {("Application", "forest"), ("AppProject", "forest")}


@dataclass(frozen=True, slots=True)
class Bootstrap:
    """What was seen on the way.

    Attributes
    ----------
    applied : list of (str, str)
        Kind and name of what was applied by hand.
    waiting : dict
        What prod's Applications were before somebody pressed Sync: whether synced, and health.
    seconds : dict
        When staging was Healthy, and when prod was, since the root Application was applied.
    """

    applied: list[tuple[str, str]]
    waiting: dict[str, tuple[str, str]]
    seconds: dict[str, float]


def bootstrap(kubernetes: Kubernetes, argocd: ArgoCD, clone: Clone) -> Bootstrap:
    """Apply the root Application, wait for staging, press Sync in prod, wait for prod."""
    _remove_what_is_there(kubernetes)
    rendered = yaml.safe_load_all(render(clone.folder, KUSTOMIZE.parent / "argocd"))
    root: list[Object] = [d for d in rendered if d and (d["kind"], d["metadata"]["name"]) in _ROOT]
    kubernetes.apply(*root)
    started = time.monotonic()
    for name in (
        f"{environment}-{what}" for environment in (STAGING, PROD) for what in ("namespaces", MODEL)
    ):
        until(f"the root Application has brought {name} about", lambda name=name: argocd.exists(name))
    argocd.wait(f"{STAGING}-namespaces")
    argocd.wait(f"{STAGING}-{MODEL}")
    staging = time.monotonic() - started

    waiting = {name: argocd.state(name) for name in (f"{PROD}-namespaces", f"{PROD}-{MODEL}")}
    argocd.sync(f"{PROD}-namespaces")
    argocd.wait(f"{PROD}-namespaces")
    # Whoever runs the cluster makes it, before the pods that write there.
    kubernetes.apply(claim(kubernetes, "forest-audit", "ReadWriteMany"), namespace=f"forest-{PROD}")
    argocd.sync(f"{PROD}-{MODEL}")
    argocd.wait(f"{PROD}-{MODEL}")
    prod = time.monotonic() - started
    return Bootstrap(
        [(d["kind"], d["metadata"]["name"]) for d in root], waiting, {STAGING: staging, PROD: prod}
    )


def _remove_what_is_there(kubernetes: Kubernetes) -> None:
    """Remove what an earlier run left in the cluster, if it was not thrown away since."""
    found = kubernetes.try_run("get", "namespace", "argocd")
    assert found.returncode == 0, f"Argo CD is not in the namespace argocd: {found.stderr.decode()}"
    # Not one by one: an ApplicationSet would make its Applications again.
    for kind in ("applicationsets", "applications", "appprojects"):
        names = [
            entry["metadata"]["name"]
            for entry in kubernetes.find(f"{kind}.argoproj.io", "argocd")
            if _ours(entry["metadata"]["name"])
        ]
        if names:
            kubernetes.run("delete", f"{kind}.argoproj.io", "--namespace=argocd", "--wait=true", *names)
    kubernetes.run(
        "delete", "namespace", f"forest-{STAGING}", f"forest-{PROD}", "--ignore-not-found", "--wait=true",
        seconds=300,
    )  # fmt: skip
    # A volume without class stays its former claim's, until somebody says that it is free.
    for volume in kubernetes.find("persistentvolumes", "default"):
        name, spec = volume["metadata"]["name"], volume["spec"]
        former = spec.get("claimRef", {}).get("namespace") in (f"forest-{STAGING}", f"forest-{PROD}")
        if former and volume["status"]["phase"] == "Released" and not spec.get("storageClassName"):
            kubernetes.run("patch", "persistentvolume", name, '--patch={"spec": {"claimRef": null}}')


def _ours(name: str) -> bool:
    return name in ("forest", STAGING, PROD) or name.startswith((f"{STAGING}-", f"{PROD}-", "forest-"))
