"""What every refusal of the registry has in common."""

from model_export.error import ExportError


class RegistryError(ExportError):
    """The registry cannot, or will not, do what it was asked. The message names the thing and the way out."""

    status = 1
