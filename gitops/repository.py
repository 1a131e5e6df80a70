"""A Git repository: real git, run as a program, never on the user's own files or index."""

import io
import os
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from gitops.error import GitopsError

# They would turn git away from the folder it is run in, and are set when a hook runs this.
_ELSEWHERE = {
    "GIT_DIR",
    "GIT_WORK_TREE",
    "GIT_INDEX_FILE",
    "GIT_PREFIX",
    "GIT_COMMON_DIR",
    "GIT_OBJECT_DIRECTORY",
    "GIT_NAMESPACE",
}

# Messages that can be read by programs, no editor, and paths that are what they say: no pattern.
_ALWAYS = {"LC_ALL": "C", "GIT_EDITOR": "true", "GIT_LITERAL_PATHSPECS": "1"}


class GitError(GitopsError):
    """A git command that failed."""


class Repository:
    """A clone, or a working tree of it.

    Parameters
    ----------
    folder : Path
        Any folder inside it.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.folder = Path(self.git("rev-parse", "--show-toplevel"))

    def git(self, *arguments: str) -> str:
        """Run git; return what it printed, without the last line's end. Raises `GitError`."""
        return self.output(*arguments).decode().rstrip("\n")

    def output(self, *arguments: str) -> bytes:
        """Run git; return exactly what it printed. Raises `GitError`."""
        environment = {name: value for name, value in os.environ.items() if name not in _ELSEWHERE}
        try:
            done = subprocess.run(  # noqa: S603 - no shell
                ("git", *arguments),  # noqa: S607 - the one on PATH
                cwd=self.folder,
                env=environment | _ALWAYS,
                capture_output=True,
                check=False,
            )
        except FileNotFoundError as error:
            raise GitopsError("git is not installed, or not on PATH") from error
        if done.returncode:
            said = (done.stderr or done.stdout).decode(errors="replace").strip()
            raise GitError(f"git {arguments[0]}: {said}")
        return done.stdout

    def commit(self, revision: str) -> str:
        """Return the full name of the commit that a revision means."""
        try:
            return self.git("rev-parse", "--verify", "--quiet", "--end-of-options", f"{revision}^{{commit}}")
        except GitError as error:
            raise GitError(f"{revision} is no commit in {self.folder}: is this the right clone?") from error

    def knows(self, commit: str) -> bool:
        """Whether a commit, by its full name, is in this clone."""
        try:
            self.git("cat-file", "-e", f"{commit}^{{commit}}")
        except GitError:
            return False
        return True

    def contains(self, commit: str, other: str) -> bool:
        """Whether a commit is `other`, or was built on it."""
        try:
            return self.git("merge-base", other, commit) == self.commit(other)
        except GitError:
            return False  # they have no commit in common

    def branch(self) -> str | None:
        """Return the branch that is checked out, or None."""
        return self.git("branch", "--show-current") or None

    def shallow(self) -> bool:
        """Whether older commits were left out when it was cloned."""
        return self.git("rev-parse", "--is-shallow-repository") == "true"

    def read(self, commit: str, path: PurePosixPath) -> bytes | None:
        """Return a file as a commit holds it, or None where it holds none."""
        if not self.git("ls-tree", commit, "--", str(path)):
            return None
        return self.output("cat-file", "blob", f"{commit}:{path}")

    def files(self, commit: str, path: PurePosixPath) -> dict[PurePosixPath, bytes]:
        """Return the files that a commit holds below a folder, by path."""
        names = self.git("ls-tree", "-r", "-z", "--name-only", commit, "--", f"{path}/").split("\0")
        return {
            PurePosixPath(name): self.output("cat-file", "blob", f"{commit}:{name}")
            for name in filter(None, names)
        }

    def touched(self, commit: str) -> list[str]:
        """Return the files that differ between a commit and its first parent."""
        names = self.git("diff", "--name-only", "--no-renames", "-z", f"{commit}^1", commit)
        return names.rstrip("\0").split("\0") if names else []

    def export(self, commit: str, path: PurePosixPath, folder: Path) -> None:
        """Write a commit's files below `path` into an empty folder."""
        archive = self.output("archive", "--format=tar", commit, "--", str(path))
        with tarfile.open(fileobj=io.BytesIO(archive)) as files:
            files.extractall(folder, filter="data")

    @contextmanager
    def worktree(self, commit: str) -> Iterator["Repository"]:
        """Check a commit out in a folder of its own, which goes with the block."""
        with tempfile.TemporaryDirectory(prefix="forest-gitops-") as temporary:
            folder = Path(temporary) / "tree"
            self.git("worktree", "add", "--quiet", "--detach", str(folder), commit)
            try:
                yield Repository(folder)
            finally:
                self.git("worktree", "remove", "--force", str(folder))
