"""The models that this server found: those it serves, and those it refused, with the reason."""

import logging
import threading
from pathlib import Path

from model_bundle import bundle
from model_bundle.bundle import Bundle, BundleError
from model_bundle.manifest import Manifest, ManifestError, check_name, version_key
from server.status import Code, StatusError

_log = logging.getLogger(__name__)


class Model:
    """One version of one model, as found in the models folder.

    Attributes
    ----------
    bundle : Bundle or None
        What answers its calls; None if it was refused.
    refusal : str
        Why it was refused; empty if it was not.
    manifest, digest
        None and empty if the manifest itself could not be read.
    lock : threading.Lock
        Held by who encodes and scores a row: a bundle has the memory of one.

    Parameters
    ----------
    folder
        Where the bundle is.
    pinned
        The only digest that is not refused; empty for any.
    """

    def __init__(self, folder: Path, pinned: str = ""):
        self.name = folder.parent.name
        self.version = folder.name
        self.lock = threading.Lock()
        self.manifest: Manifest | None = None
        self.digest = ""
        self.bundle: Bundle | None = None
        self.refusal = ""
        try:
            self.manifest, self.digest = bundle.read_manifest(folder)
            if pinned not in ("", self.digest):
                raise BundleError(f"its digest is {self.digest}, but only {pinned} may be served here")
            self.bundle = bundle.check(folder, self.manifest, self.digest)
        except BundleError as error:
            self.refusal = str(error)
        except Exception as error:
            # No check foresaw it. One bundle's fault must not keep the server from starting.
            _log.exception("fault while loading %s %s", self.name, self.version)
            self.refusal = f"fault while loading: {error!r}"


class Models:
    """Every model in a folder ``<models>/<model>/<version>``.

    Parameters
    ----------
    folder
        The models folder. What is in it but is no ``<model>/<version>`` is left alone.
    pinned
        The digest that requests without a version must be answered by; empty for any. Two models cannot
        both have it, so only one may be here.
    """

    def __init__(self, folder: Path, pinned: str = ""):
        self.folder = folder
        self._pinned = pinned
        self.found: list[Model] = []
        self._served: dict[tuple[str, str], Model] = {}
        self._closed = False

    def load(self) -> None:
        """Load and check every bundle. What fails a check is kept aside, and why is logged."""
        folders = sorted(self.folder.glob("[!.]*/[!.]*/"), key=lambda folder: folder.parent.name)
        versions = [(version, folder) for folder in folders if (version := _version(folder))]
        versions.sort(key=lambda item: item[0], reverse=True)
        versions.sort(key=lambda item: item[1].parent.name)
        for _, folder in versions:
            # The highest version comes first and is the default, also if it is refused: an older one must
            # not answer in its place unasked.
            default = (folder.parent.name, "") not in self._served
            model = Model(folder, self._pinned if default else "")
            self.found.append(model)
            self._served.setdefault((model.name, ""), model)
            self._served[model.name, model.version] = model
            if model.refusal:
                _log.error("refused %s %s: %s", model.name, model.version, model.refusal)
            else:
                _log.info("loaded %s %s %s", model.name, model.version, model.digest)
        if not self.found:
            _log.error("no bundle in %s: make one with forest-export", self.folder)

    def find(self, name: str, version: str) -> Model:
        """Return a model; the highest version if none is named.

        Raises
        ------
        StatusError
            NOT_FOUND if it is not here, UNAVAILABLE if the server no longer takes work.
        """
        if self._closed:
            raise StatusError(Code.UNAVAILABLE, "the server is about to stop: call another")
        model = self._served.get((name, version))
        if model is None:
            raise StatusError(Code.NOT_FOUND, self._not_found(name, version))
        return model

    def is_default(self, model: Model) -> bool:
        """Return whether requests without a version go to this one."""
        return self._served[model.name, ""] is model

    def names(self) -> dict[str, bool]:
        """Return each model's name, and whether none of its versions was refused."""
        names: dict[str, bool] = {}
        for model in self.found:
            names[model.name] = names.get(model.name, True) and not model.refusal
        return names

    def close(self) -> None:
        """Take no new work."""
        self._closed = True

    def _not_found(self, name: str, version: str) -> str:
        shown = repr(name[:64])
        versions = [model.version for model in self.found if model.name == name]
        if versions:
            return f"model {shown} has no version {version[:64]!r} here, but {', '.join(versions)}"
        if not name:
            return f"the request names no model; here are: {', '.join(self.names())}"
        return f"no model {shown} here, but: {', '.join(self.names()) or 'none at all'}"


def _version(folder: Path) -> tuple[int, int, int] | None:
    try:
        check_name(folder.parent.name)
        return version_key(folder.name)
    except ManifestError:
        _log.warning("left alone: %s is no <model>/<version>", folder)
        return None
