"""What a folder renders to, by the real kustomize."""

import difflib
import re
import shutil
import subprocess
from pathlib import Path, PurePosixPath

from gitops.error import GitopsError

# How kubectl wraps what kustomize says.
_WRAPPED = re.compile(r'^E\d{4} .*?\] "command failed" err="(.*)"$', re.DOTALL)


def render(root: Path, folder: PurePosixPath) -> str:
    """Return the manifests of a kustomization, as ``kustomize build`` or ``kubectl kustomize`` prints them.

    Parameters
    ----------
    root : Path
        The folder that holds the whole tree; messages leave it out.
    folder : PurePosixPath
        The kustomization's, relative to `root`.

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
    done = subprocess.run(  # noqa: S603 - no shell
        command, cwd=root, capture_output=True, check=False, text=True
    )
    if done.returncode:
        said = _WRAPPED.sub(r"\1", done.stderr.strip()).replace('\\"', '"').replace(f"{root.resolve()}/", "")
        raise GitopsError(f"{folder} does not build: {said}")
    return done.stdout


def diff(before: str, after: str, name: str) -> str:
    """Return a unified diff of two renderings, empty if they are equal."""
    return "".join(
        difflib.unified_diff(before.splitlines(True), after.splitlines(True), f"{name} now", f"{name} then")
    )
