"""What goes wrong here: one exception, whose message names the thing, the place and the way out."""


class GitopsError(Exception):
    """A command that could not, or would not, do what it was asked."""
