"""The one error of this package."""


class NodeError(Exception):
    """What stopped the node, and where to look."""
