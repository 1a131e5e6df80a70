"""Where the cluster is that the suite is given: environment variables, and nothing else."""

import os
from dataclasses import dataclass


class AbsentError(Exception):
    """Which variables were not given."""


_REQUIRED = (
    "KUBECONFIG",
    "ARGOCD_SERVER",
    "ARGOCD_AUTH_TOKEN",
    "FOREST_CLUSTER_REPOSITORY",
    "FOREST_CLUSTER_REGISTRY",
)


@dataclass(frozen=True, slots=True)
class Setting:
    """What was given.

    Attributes
    ----------
    argocd, token : str
        The URL of Argo CD's API, and a token of someone who may do everything there.
    repository, repository_in_cluster : str
        A Git repository: as the suite pushes to it, and as Argo CD reads it. Its branch main is overwritten.
    registry, registry_in_cluster : str
        A registry: as the suite pushes to it, and as nodes pull from it. ``HOST:PORT``, plain HTTP or not.
    base : str
        The base image of `make image`; empty for one made on this machine.
    node : str
        A command that ends a part of the control plane (``COMMAND kill etcd``), and starts it again.
        Empty where the suite may not do that.
    """

    argocd: str
    token: str
    repository: str
    repository_in_cluster: str
    registry: str
    registry_in_cluster: str
    base: str
    node: str


def read() -> Setting:
    """Return the variables' values.

    Raises
    ------
    AbsentError
        If one is missing that has no default.
    """
    if missing := [name for name in _REQUIRED if not os.environ.get(name)]:
        raise AbsentError(
            f"not set: {', '.join(missing)} (`make cluster-test` makes a cluster; docs/cluster.md)"
        )

    def value(name: str, default: str = "") -> str:
        return os.environ.get(f"FOREST_CLUSTER_{name}", default)

    return Setting(
        argocd=os.environ["ARGOCD_SERVER"],
        token=os.environ["ARGOCD_AUTH_TOKEN"],
        repository=value("REPOSITORY"),
        repository_in_cluster=value("REPOSITORY_IN_CLUSTER", value("REPOSITORY")),
        registry=value("REGISTRY"),
        registry_in_cluster=value("REGISTRY_IN_CLUSTER", value("REGISTRY")),
        base=value("BASE"),
        node=value("NODE"),
    )
