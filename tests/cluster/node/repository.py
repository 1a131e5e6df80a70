"""A Git repository that anybody on this machine may push to."""

from tests.cluster.node.command import run
from tests.cluster.node.place import REPOSITORY


def make() -> None:
    """Make an empty one, whose branch is main: with another, Argo CD refuses it."""
    run("git", "init", "--quiet", "--bare", "--initial-branch=main", REPOSITORY)
