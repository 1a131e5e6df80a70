"""Where things are in ``kustomize/``. Paths are relative to the repository's root."""

from pathlib import PurePosixPath

KUSTOMIZE = PurePosixPath("kustomize")
OVERLAYS = KUSTOMIZE / "overlays"
# What runs beside the models, once for all environments.
APPS = KUSTOMIZE / "apps"
# As an overlay's own file calls the folder of environments.
ENVS = "../../../envs"
STAGING = "staging"
PROD = "prod"


def overlay(environment: str, model: str) -> PurePosixPath:
    """Return the folder of one model in one environment."""
    return OVERLAYS / environment / model


def environment_file(environment: str) -> PurePosixPath:
    """Return the file that lists what makes a whole environment."""
    return OVERLAYS / environment / "kustomization.yaml"


def release_file(environment: str, model: str) -> PurePosixPath:
    """Return the file that says which release of a model an environment runs."""
    return overlay(environment, model) / "release" / "kustomization.yaml"
