"""A clone of what Argo CD syncs: this very tree, but one model, watched over, and another address."""

import shutil
import subprocess
import sys
import time
from pathlib import Path

import yaml

from gitops.layout import PROD, STAGING, release_file
from gitops.release import Release
from tests.cluster.images import Pushed
from tests.cluster.setting import Setting

_ROOT = Path(__file__).parents[2]
# What Argo CD reads, and what `lint` compares.
_FOLDERS = ("kustomize", "argocd")
MODEL = "fraud"
# What watches over a model: each of these components is in an environment.
_COMPONENTS = {STAGING: ("metrics", "traces"), PROD: ("metrics", "audit", "log-level")}


class Clone:
    """A clone, as an engineer has it."""

    def __init__(self, folder: Path, setting: Setting):
        self.folder = folder
        self._setting = setting

    def begin(self, first: Pushed) -> None:
        """Make the repository anew: one commit, with a first release in both environments."""
        names = _git(_ROOT, "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", *_FOLDERS)
        for name in filter(None, names.split("\0")):
            target = self.folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            if (_ROOT / name).exists():
                shutil.copy2(_ROOT / name, target)
        for environment in (STAGING, PROD):
            overlays = self.folder / "kustomize" / "overlays" / environment
            for folder in overlays.iterdir():
                if folder.is_dir() and folder.name != MODEL:
                    shutil.rmtree(folder)
            file = overlays / "kustomization.yaml"
            whole = yaml.safe_load(file.read_text())
            whole["resources"] = [f"../../namespaces/{environment}", MODEL]
            file.write_text(yaml.safe_dump(whole))
            file = overlays / MODEL / "kustomization.yaml"
            whole = yaml.safe_load(file.read_text())
            whole["components"][:0] = [f"../../../components/{name}" for name in _COMPONENTS[environment]]
            file.write_text(yaml.safe_dump(whole))
            (self.folder / release_file(environment, MODEL)).write_bytes(first.release.to_bytes())
        # What runs beside the models has images from elsewhere, and a name that may be taken here.
        file = self.folder / "argocd" / "kustomization.yaml"
        root = yaml.safe_load(file.read_text())
        root["resources"] = [each for each in root["resources"] if Path(each).stem != "mlflow"]
        file.write_text(yaml.safe_dump(root))
        place = self.folder / "argocd" / "repository.yaml"
        document = yaml.safe_load(place.read_text())
        document["data"] = {"url": self._setting.repository_in_cluster, "revision": "main"}
        place.write_text(yaml.safe_dump(document))

        self.git("init", "--quiet", "--initial-branch=main")
        self.git("config", "user.name", "Ada")
        self.git("config", "user.email", "ada@example.org")
        self.git("remote", "add", "origin", self._setting.repository)
        self.git("add", "--all")
        self.git("commit", "--quiet", "--message", "Begin")
        self.git("push", "--quiet", "--force", "--set-upstream", "origin", "main")

    def git(self, *arguments: str) -> str:
        """Return what a git command prints, in the clone."""
        return _git(self.folder, *arguments)

    def gitops(self, *arguments: str) -> str:
        """Return what ``forest-gitops`` says; it must succeed."""
        done = self.try_gitops(*arguments)
        assert done.returncode == 0, f"forest-gitops {' '.join(arguments)}: {done.stderr}"
        return done.stdout + done.stderr

    def try_gitops(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Return what ``forest-gitops`` did, also when it failed."""
        self.git("pull", "--quiet", "--rebase")
        program = Path(sys.executable).with_name("forest-gitops")
        return subprocess.run(
            [program, *arguments], cwd=self.folder, capture_output=True, text=True, check=False, timeout=120
        )

    def release(self, image: Pushed) -> str:
        """Release an image to staging, and return the commit."""
        self.gitops("release", MODEL, *image.options)
        return self.head()

    def promote(self) -> str:
        """Promote what staging holds, once it has had it for a moment, and return the commit."""
        # Argo CD's clock tells whole seconds.
        time.sleep(2)
        self.gitops("promote", MODEL, "--soak=1s")
        return self.head()

    def commit(self, message: str) -> str:
        """Commit everything and push it, and return the commit."""
        self.git("add", "--all")
        self.git("commit", "--quiet", "--message", message)
        self.git("push", "--quiet")
        return self.head()

    def head(self) -> str:
        """Return the newest commit here."""
        return self.git("rev-parse", "HEAD").strip()

    def held(self, environment: str) -> Release:
        """Return the release that Git says an environment runs."""
        path = release_file(environment, MODEL)
        return Release.from_bytes((self.folder / path).read_bytes(), str(path))


def _git(folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["git", *arguments], cwd=folder, capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, f"git {' '.join(arguments)}: {done.stderr}"
    return done.stdout
