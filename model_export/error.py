"""What every refusal of an export has in common."""


class ExportError(Exception):
    """An export that cannot go on. The message is one line that says what is wrong, and where.

    Attributes
    ----------
    status : int
        The command's exit status: 2 for input that cannot be used, 1 for a model that failed its proof.
    """

    status = 2
