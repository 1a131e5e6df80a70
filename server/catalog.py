"""What a service sees of the models: all of them, or those that its caller may see."""

from collections.abc import Sequence
from typing import Protocol

from model_bundle.bundle import Bundle
from server.models import Model


class Catalog(Protocol):
    """Models, by name and version. `server.models.Models` is one."""

    @property
    def found(self) -> Sequence[Model]:
        """Every version of every model, by name, the highest version first."""

    def find(self, name: str, version: str) -> Model:
        """Return a model; the highest version if none is named."""

    def serving(self, name: str, version: str) -> tuple[Model, Bundle]:
        """Return a model, and the bundle that answers its calls; UNAVAILABLE if it was refused."""

    def is_default(self, model: Model) -> bool:
        """Return whether requests without a version go to this one."""

    def names(self) -> dict[str, bool]:
        """Return each model's name, and whether it may be called."""
