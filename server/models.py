"""The models that this server found: those it serves, and those it refused, with the reason."""

import json
import logging
import os
import threading
from pathlib import Path

from model_bundle import bundle, created, reference, runtime
from model_bundle.bundle import MANIFEST, Bundle, BundleError
from model_bundle.manifest import Manifest, ManifestError, check_name, version_key
from model_bundle.reference import HistogramError
from server.decisions import Audit, Decisions, Identity
from server.status import Code, StatusError
from server.store import Store

_log = logging.getLogger(__name__)

MODEL = "model"
"""What a store calls the cells of a model: whether it is there, and whether it may be called."""


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
    folder : Path
        Where it was found.
    look : tuple
        What its files looked like when it was loaded.
    gone : bool
        Whether its folder has gone while nothing could take its place.
    lock : threading.Lock
        Held by who encodes and scores a row: a bundle has the memory of one.
    decisions : Decisions
        What is kept of its decisions. There is none if it was refused.

    Parameters
    ----------
    folder
        Where the bundle is.
    pinned
        The only digest that is not refused; empty for any.
    store
        Where its decisions are counted.
    audit
        Puts them on record, if anything does.
    """

    def __init__(self, folder: Path, pinned: str, store: Store, audit: Audit | None):
        self.folder = folder
        self.look: _Look = ()
        self.gone = False
        self.name = folder.parent.name
        self.version = folder.name
        self.lock = threading.Lock()
        self.manifest: Manifest | None = None
        self.digest = ""
        self.bundle: Bundle | None = None
        self.decisions: Decisions
        self.refusal = ""
        try:
            self.manifest, self.digest = bundle.read_manifest(folder)
            if pinned not in ("", self.digest):
                raise BundleError(f"its digest is {self.digest}, but only {pinned} may be served here")
            self.bundle = bundle.check(folder, self.manifest, self.digest)
            histograms = reference.read(folder, self.manifest)
            identity = Identity(self.name, self.version, self.digest, self.bundle)
            self.decisions = Decisions(identity, histograms, lock=self.lock, store=store, audit=audit)
        except (BundleError, HistogramError) as error:
            self.bundle = None
            self.refusal = str(error)
        except Exception as error:
            # No check foresaw it. One bundle's fault must not keep the server from starting.
            _log.exception("fault while loading %s %s", self.name, self.version)
            self.bundle = None
            self.refusal = f"fault while loading: {error!r}"
        self._tell(store)

    def there(self, there: bool) -> None:
        """Say whether requests may name it, for who counts models."""
        self._state[0], self._state[1] = there, there and not self.refusal

    def _tell(self, store: Store) -> None:
        """Say what it is, for who counts models."""
        manifest = self.manifest
        metrics = {name: metric.value for name, metric in manifest.metrics.items()} if manifest else {}
        made = created.of(self.folder)
        labels = {
            "model": self.name,
            "version": self.version,
            "digest": self.digest,
            "task": manifest.task if manifest else "",
            "created": "" if made is None else str(made),
            "metrics": json.dumps(metrics),
        }
        self._state = store.cells(MODEL, labels, 2)


class Models:
    """Every model in a folder ``<models>/<model>/<version>``.

    Parameters
    ----------
    folder
        The models folder. What is in it but is no ``<model>/<version>`` is left alone.
    pinned
        The digest that requests without a version must be answered by; empty for any. Two models cannot
        both have it, so only one may be here.
    followed
        Whether `follow` will be called. Then others write into the folder, and the default is the highest
        version that passed its checks. Else it is the highest, also if it is refused: an older one must not
        answer in its place unasked.
    store
        Where decisions are counted; None for one of its own.
    audit
        Puts decisions on record, if anything does.
    """

    def __init__(
        self,
        folder: Path,
        pinned: str = "",
        followed: bool = False,
        *,
        store: Store | None = None,
        audit: Audit | None = None,
    ):
        self.folder = folder
        self._store = store or Store()
        self._audit = audit
        self._pinned = pinned
        self._followed = followed
        self.found: list[Model] = []
        self._served: dict[tuple[str, str], Model] = {}
        self._changing: dict[Path, _Look] = {}
        self._strays: set[Path] = set()
        self._closed = False

    def load(self) -> None:
        """Load and check every bundle. What fails a check is kept aside, and why is logged."""
        found = []
        names = set()
        for folder in self._folders():
            default = folder.parent.name not in names
            names.add(folder.parent.name)
            found.append(self._load(folder, self._pinned if default else ""))
        self._take(found)
        if not found:
            _log.error("no bundle in %s: make one with forest-export", self.folder)

    def follow(self) -> bool:
        """Look into the folder again: serve what is new and passes its checks, drop what has gone.

        What is new is loaded when two looks in a row have seen the same files: then nobody is writing them.
        What was served is never given up for something that fails a check, nor for nothing at all.

        Returns
        -------
        bool
            Whether anything has changed.
        """
        known = {model.folder: model for model in self.found}
        found = []
        looks = {}
        for folder in self._folders():
            model, look = known.get(folder), _look(folder)
            looks[folder] = look
            if model and model.look == look:
                model.gone = False
                found.append(model)
            elif look != self._changing.get(folder) or not look:
                # Not seen twice like this yet, or nothing in it.
                found += [model] if model else []
            elif model and model.bundle:
                _log.error(
                    "left alone: %s has changed. A version never changes: give what is new one of its own",
                    folder,
                )
                model.look = look
                found.append(model)
            else:
                found.append(self._load(folder))
        self._changing = looks
        found = self._with_the_last_of_each(found)
        changed = found != self.found
        if changed:
            self._take(found)
        return changed

    def _folders(self) -> list[Path]:
        """Return the folders of all versions, by model, the highest first."""
        folders = sorted(self.folder.glob("[!.]*/[!.]*/"), key=lambda folder: folder.parent.name)
        versions = [(version, folder) for folder in folders if (version := self._version(folder))]
        versions.sort(key=lambda item: item[0], reverse=True)
        versions.sort(key=lambda item: item[1].parent.name)
        return [folder for _, folder in versions]

    def _version(self, folder: Path) -> tuple[int, int, int] | None:
        try:
            check_name(folder.parent.name)
            return version_key(folder.name)
        except ManifestError:
            if folder not in self._strays:
                _log.warning("left alone: %s is no <model>/<version>", folder)
                self._strays.add(folder)
            return None

    def _load(self, folder: Path, pinned: str = "") -> Model:
        look = _look(folder)
        model = Model(folder, pinned, self._store, self._audit)
        model.look = look
        if model.refusal:
            _log.error("refused %s %s: %s", model.name, model.version, model.refusal)
        else:
            _log.info("loaded %s %s %s", model.name, model.version, model.digest)
        return model

    def _with_the_last_of_each(self, found: list[Model]) -> list[Model]:
        """Return the models found, and the default of each model of which no version could be served else."""
        served = {model.name for model in found if model.bundle}
        kept = [
            model
            for model in self.found
            if model.bundle and self.is_default(model) and model.name not in served and model not in found
        ]
        for model in kept:
            if not model.gone:
                _log.error("%s has gone, but is served on: nothing could take its place", model.folder)
                model.gone = True
        return sorted([*found, *kept], key=lambda model: model.name)

    def _take(self, found: list[Model]) -> None:
        """Let these be the models from the next call on. Calls under way finish on the ones they have."""
        served: dict[tuple[str, str], Model] = {}
        for model in found:
            served[model.name, model.version] = model
            served.setdefault((model.name, ""), model)
        if self._followed:
            for model in reversed(found):
                if model.bundle:
                    served[model.name, ""] = model
        for model in self.found:
            if model not in found:
                _log.info("dropped %s %s %s", model.name, model.version, model.digest)
                model.there(False)
        for model in found:
            model.there(True)
        for (name, version), model in served.items():
            before = self._served.get((name, ""))
            if not version and before and before is not model:
                _log.info("%s is now answered by %s, no longer by %s", name, model.version, before.version)
        before_this, self.found, self._served = self.found, found, served
        for model in before_this:
            if model.bundle and model not in found:
                # `flush` will not find it any more.
                model.decisions.flush()
        runtime.give_back()

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

    def serving(self, name: str, version: str) -> tuple[Model, Bundle]:
        """Return a model as `find` does, with the bundle that answers its calls.

        Raises
        ------
        StatusError
            NOT_FOUND if it is not here, UNAVAILABLE if it was refused or the server no longer takes work.
        """
        model = self.find(name, version)
        if model.bundle is None:
            raise StatusError(
                Code.UNAVAILABLE, f"model {model.name} {model.version} is not served: {model.refusal}"
            )
        return model, model.bundle

    def is_default(self, model: Model) -> bool:
        """Return whether requests without a version go to this one."""
        return self._served.get((model.name, "")) is model

    def names(self) -> dict[str, bool]:
        """Return each model's name, and whether it may be called.

        It may if none of its versions was refused; where the folder is followed, if one of them was not.
        """
        names: dict[str, list[bool]] = {}
        for model in self.found:
            names.setdefault(model.name, []).append(not model.refusal)
        enough = any if self._followed else all
        return {name: enough(good) for name, good in names.items()}

    def flush(self) -> None:
        """Put what is counted of every model's decisions where it is read."""
        for model in self.found:
            if model.bundle:
                model.decisions.flush()

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


# A file's name, size and time of its last change, of each file of a bundle.
_Look = tuple[tuple[str, int, int], ...]


def _look(folder: Path) -> _Look:
    """Return what tells whether a bundle's files have changed; nothing as long as it has no manifest."""
    try:
        if not (folder / MANIFEST).exists():
            return ()
        return tuple(
            (entry.name, (status := entry.stat()).st_size, status.st_mtime_ns)
            for entry in sorted(os.scandir(folder), key=lambda entry: entry.name)
        )
    except OSError:
        return ()
