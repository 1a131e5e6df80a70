"""What a folder renders to, by the real kustomize."""

import difflib
import shutil
import subprocess
from pathlib import Path

from gitops.error import GitopsError


def render(folder: Path) -> str:
    """Return the manifests of a kustomization, as ``kustomize build`` or ``kubectl kustomize`` prints them.

    Raises
    ------
    GitopsError
        If neither is installed, or the folder does not build.
    """
    if kustomize := shutil.which("kustomize"):
        command = (kustomize, "build", str(folder))
    elif kubectl := shutil.which("kubectl"):
        command = (kubectl, "kustomize", str(folder))
    else:
        raise GitopsError("neither kustomize nor kubectl is on PATH: install one (kustomize 5.5 or newer)")
    done = subprocess.run(command, capture_output=True, check=False, text=True)  # noqa: S603 - no shell
    if done.returncode:
        raise GitopsError(f"{folder} does not build: {done.stderr.strip()}")
    return done.stdout


def diff(before: str, after: str, name: str) -> str:
    """Return a unified diff of two renderings, empty if they are equal."""
    return "".join(
        difflib.unified_diff(before.splitlines(True), after.splitlines(True), f"{name} now", f"{name} then")
    )
