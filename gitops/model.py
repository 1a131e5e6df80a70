"""A model's own files: how it begins in staging, and how it comes to prod."""

import re
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from gitops.error import GitopsError
from gitops.layout import ENVS, KUSTOMIZE, PROD, STAGING, environment_file, overlay, release_file
from gitops.release import Release

_MODEL = """\
apiVersion: kustomize.config.k8s.io/v1alpha1
kind: Component
namePrefix: {model}-
labels:
  - pairs:
      app.kubernetes.io/instance: {model}
    includeSelectors: true
"""
_OVERLAY = """\
apiVersion: kustomize.config.k8s.io/v1beta1
kind: Kustomization
resources:
  - ../../../base
components:
  - ../../../envs/{environment}
  - ../../../models/{model}
  - release
"""
# With the longest suffix that the base gives a name, -forest-headless, it must stay within 63 characters.
_NAME = re.compile(r"[a-z]([a-z0-9-]{0,45}[a-z0-9])?")
_RESOURCES = re.compile(r"^resources:\n(  - \S+\n)+", re.MULTILINE)


def begin(root: Path, model: str, release: Release) -> list[PurePosixPath]:
    """Write a new model's files into the working tree `root`: its own, and staging's with a first release.

    Returns
    -------
    list of PurePosixPath
        The files that were written, to be looked at and committed.

    Raises
    ------
    GitopsError
        If the name cannot be a model's, or something of that name is there. Nothing is then written.
    """
    if not _NAME.fullmatch(model) or model == "namespaces":
        raise GitopsError(
            f"{model!r} cannot be a model's name here: names in Kubernetes are made of it, so give at most "
            "47 small letters, digits and hyphens, a letter first and no hyphen last; and not namespaces, "
            "for that Application is an environment's own"
        )
    own = KUSTOMIZE / "models" / model
    for folder in (own, overlay(STAGING, model), overlay(PROD, model)):
        if (root / folder).exists():
            raise GitopsError(
                f"{folder} is there already: `forest-gitops release {model} …` brings it releases"
            )
    whole = environment_file(STAGING)
    try:
        listed = _listed((root / whole).read_bytes(), whole, model)
    except FileNotFoundError as error:
        raise GitopsError(f"{whole} is not in {root}: is this the right repository?") from error
    files = {
        own / "kustomization.yaml": _MODEL.format(model=model).encode(),
        overlay(STAGING, model) / "kustomization.yaml": _OVERLAY.format(
            environment=STAGING, model=model
        ).encode(),
        release_file(STAGING, model): release.to_bytes(),
        whole: listed,
    }
    write(root, files)
    return list(files)


def first_in_prod(tree: Mapping[PurePosixPath, bytes], model: str) -> dict[PurePosixPath, bytes]:
    """Return the files that bring a model to prod for the first time: staging's overlay, but of prod.

    Parameters
    ----------
    tree : mapping
        The files below ``kustomize/overlays``, by path.
    """
    source, whole = overlay(STAGING, model), environment_file(PROD)
    if whole not in tree:
        raise GitopsError(f"{whole} is absent, so there is no {PROD} to promote to")
    files = {
        overlay(PROD, model) / path.relative_to(source): data
        for path, data in tree.items()
        if path.is_relative_to(source)
    }
    file = overlay(PROD, model) / "kustomization.yaml"
    files[file] = files[file].replace(f"{ENVS}/{STAGING}\n".encode(), f"{ENVS}/{PROD}\n".encode())
    files[whole] = _listed(tree[whole], whole, model)
    return {path: data for path, data in files.items() if tree.get(path) != data}


def write(root: Path, files: Mapping[PurePosixPath, bytes]) -> None:
    """Write files, and the folders that they need."""
    for path, data in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(data)


def _listed(data: bytes, path: PurePosixPath, model: str) -> bytes:
    """Return an environment's file with a model among its resources; all else stays as it is."""
    text = data.decode()
    line = f"  - {model}\n"
    found = _RESOURCES.search(text)
    if not found:
        raise GitopsError(
            f"{path} has no list `resources` in the form that it was made in: add {model} by hand"
        )
    if line in found[0]:
        return data
    return (text[: found.end()] + line + text[found.end() :]).encode()
