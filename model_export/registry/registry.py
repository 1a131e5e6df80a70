"""The registry: runs that logged a bundle, versions that name one, and what each is approved for."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from model_bundle import bundle, created, digest
from model_bundle.bundle import BundleError
from model_bundle.created import CreatedError
from model_bundle.manifest import Manifest, ManifestError, version_key
from model_export import writing
from model_export.registry.connection import Connection, asked
from model_export.registry.error import RegistryError
from model_export.registry.run import CREATED, DIGEST, MODEL, VERSION, metrics, parameters, tags, user

if TYPE_CHECKING:
    from mlflow.entities import Run
    from mlflow.entities.model_registry import ModelVersion

# What a model may be approved for, as aliases of its versions: gitops asks by the same names.
APPROVALS = ("staging", "production")
# The folder of a run's artifacts that is the bundle.
_FOLDER = "bundle"


@dataclass(frozen=True, slots=True)
class Registered:
    """A bundle in the registry.

    Attributes
    ----------
    number : int
        The registry's own count of the model's bundles.
    version, digest : str
        The bundle's.
    run : str
        The id of the run that logged it.
    created : int
        When the bundle was made, in seconds since the epoch; when it was registered, if nobody knew.
    approvals : tuple of str
        What it is approved for.
    """

    model: str
    number: int
    version: str
    digest: str
    run: str
    registered: datetime
    created: int
    approvals: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.model} {self.version}"


class Registry:
    """A registry of models, in an MLflow."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._client = connection.client
        self._place = f"MLflow at {connection.uri}"

    def track(self, folder: Path) -> tuple[Registered, bool]:
        """Log a bundle as a run, and register it.

        The version is registered last, so that none is ever without its bundle.

        Parameters
        ----------
        folder
            Of the bundle, ``…/MODEL/VERSION``.

        Returns
        -------
        version : Registered
        new : bool
            Whether it was not there before.

        Raises
        ------
        BundleError
            If the bundle does not load.
        RegistryError
            If the model has that version with another bundle, or MLflow fails.
        """
        folder = folder.resolve()
        loaded = bundle.load(folder)
        loaded.session.close()
        manifest = loaded.manifest
        with asked(self._connection.uri):
            if found := self._with_version(manifest):
                self._same(found, loaded.digest)
                return found, False
            told = tags(manifest, loaded.digest, created.of(folder))
            with self._run(manifest, told) as run:
                identity = run.info.run_id
                self._client.log_batch(identity, metrics(manifest), parameters(manifest))
                for name in (bundle.MANIFEST, *manifest.files):
                    self._client.log_artifact(identity, str(folder / name), _FOLDER)
            made = self._register(manifest, told, run)
            # Of two who track one version at once, the first has it.
            first = self._with_version(manifest)
            if first is None or first.number == made.number:
                return made, True
            self._client.delete_model_version(manifest.model, str(made.number))
            self._same(first, loaded.digest)
            return first, False

    def versions(self) -> list[Registered]:
        """Return every version of every model, by model and version."""
        with asked(self._connection.uri):
            found = [
                version
                for model in _pages(self._client.search_registered_models)
                for version in self._of(model.name)
            ]
        return sorted(found, key=lambda version: (version.model, version_key(version.version)))

    def unfinished(self, versions: list[Registered]) -> list["Run"]:
        """Return the runs whose bundle is not among all versions: begun, and broken off."""
        registered = {(version.model, version.digest) for version in versions}
        with asked(self._connection.uri):
            experiments = [found.experiment_id for found in _pages(self._client.search_experiments)]
            runs = [
                run
                for run in _pages(self._client.search_runs, experiments, f"tags.`{MODEL}` != ''")
                if (run.data.tags.get(MODEL), run.data.tags.get(DIGEST)) not in registered
            ]
        return sorted(runs, key=lambda run: run.info.start_time)

    def approve(self, identity: str, approval: str) -> tuple[Registered, Registered | None]:
        """Approve the version that a run logged, instead of the one that was approved.

        Parameters
        ----------
        identity
            The run's id.
        approval
            One of `APPROVALS`.

        Returns
        -------
        version : Registered
        before : Registered or None
            What was approved until now; the version itself if nothing changes.

        Raises
        ------
        RegistryError
            If there is no such run, or it has registered nothing.
        """
        with asked(self._connection.uri):
            run = self._found(identity)
            model, version = run.data.tags.get(MODEL), run.data.tags.get(VERSION)
            if not model or not version:
                raise RegistryError(
                    f"run {identity} in {self._place} is none of forest-export's (it has no tag {MODEL}): "
                    "`forest-export list` shows those that are"
                )
            all_versions = self._of(model)
            chosen = next((found for found in all_versions if found.run == identity), None)
            if chosen is None:
                raise RegistryError(self._unregistered(run, all_versions))
            if chosen.digest != run.data.tags.get(DIGEST):
                raise RegistryError(
                    f"{chosen} in {self._place} says it is the bundle {chosen.digest}, but its run "
                    f"{identity} logged {run.data.tags.get(DIGEST)}: somebody has changed one of them. Give "
                    "the bundle a new version, and track that"
                )
            before = next((found for found in all_versions if approval in found.approvals), None)
            if before != chosen:
                self._client.set_registered_model_alias(model, approval, str(chosen.number))
        return chosen, before

    def approved(self, model: str, approval: str) -> Registered:
        """Return the version of a model that is approved for something.

        Raises
        ------
        RegistryError
            If none is, or there is no such model.
        """
        with asked(self._connection.uri):
            found = self._of(model)
            if not found:
                models = sorted({version.model for version in self.versions()})
                raise RegistryError(
                    f"{self._place} has no model {model}: it has {', '.join(models) or 'none'}. "
                    f"`forest-export {model} --track` begins it"
                )
        for version in found:
            if approval in version.approvals:
                return version
        approved = [f"{version.version} for {name}" for version in found for name in version.approvals]
        raise RegistryError(
            f"no version of {model} is approved for {approval} in {self._place}; approved is "
            f"{', '.join(approved) or 'none'}. `forest-export list` shows the runs, and "
            f"`forest-export promote --run-id ID --to {approval}` approves one"
        )

    def fetch(self, version: Registered, models: Path) -> tuple[Path, bool]:
        """Bring a bundle back, and check it as a server would.

        Parameters
        ----------
        models
            The folder of all models; the bundle goes to ``models/MODEL/VERSION``.

        Returns
        -------
        folder : Path
        new : bool
            Whether it was not there before.

        Raises
        ------
        RegistryError
            If it is not the bundle that was registered. Then nothing is written.
        BundleError
            If a bundle is there already, and is broken.
        WritingError
            If the folder cannot be written to.
        """
        folder = models / version.model / version.version
        if folder.exists():
            _, there = bundle.read_manifest(folder)
            if there != version.digest:
                raise RegistryError(
                    f"{folder} is there, with the bundle {there}, but registered is {version.digest}: look "
                    "at it, and remove it, or fetch into another folder by --out"
                )
            bundle.load(folder).session.close()
            return folder, False
        files = self._download(version)
        try:
            writing.keep(folder, files, version.created)
        except BundleError as error:
            raise self._changed(version, str(error)) from error
        return folder, True

    def _download(self, version: Registered) -> dict[str, bytes]:
        """Return a bundle's files: those that its manifest lists, if that is the one registered."""
        with tempfile.TemporaryDirectory(prefix="forest-export-") as aside, asked(self._connection.uri):
            run = self._found(version.run)
            if run.data.tags.get(DIGEST) != version.digest:
                raise self._changed(
                    version, f"its run {version.run} logged the bundle {run.data.tags.get(DIGEST)}"
                )

            def download(name: str) -> bytes:
                place = f"{_FOLDER}/{name}"
                return Path(self._client.download_artifacts(version.run, place, aside)).read_bytes()

            content = download(bundle.MANIFEST)
            if (found := digest.of_bytes(content)) != version.digest:
                raise self._changed(
                    version, f"{bundle.MANIFEST} has the digest {found}, and {version.digest} was registered"
                )
            try:
                manifest = Manifest.from_bytes(content)
            except ManifestError as error:
                raise self._changed(version, f"{bundle.MANIFEST}: {error}") from error
            return {bundle.MANIFEST: content, **{name: download(name) for name in manifest.files}}

    def _changed(self, version: Registered, fault: str) -> RegistryError:
        return RegistryError(
            f"{version} in {self._place} is not what was registered: {fault}. Nothing was written. To mend "
            f"it, delete version {version.number} of {version.model} in MLflow, log the bundle anew from "
            f"where it is kept (`forest-export track …/{version.model}/{version.version}`), and approve that"
        )

    def _with_version(self, manifest: Manifest) -> Registered | None:
        """Return what has a bundle's version; the first, if two were registered at once."""
        same = [found for found in self._of(manifest.model) if found.version == manifest.version]
        return min(same, key=lambda found: found.number, default=None)

    def _same(self, found: Registered, bundle_digest: str) -> None:
        if found.digest != bundle_digest:
            raise RegistryError(
                f"{found} is in {self._place} with the bundle {found.digest} (run {found.run}), and this one "
                f"is {bundle_digest}: a version never changes, so give the new bundle another --version"
            )

    @contextmanager
    def _run(self, manifest: Manifest, told: dict[str, str]) -> Iterator["Run"]:
        """Begin a run, and end it: finished, or failed."""
        run = self._client.create_run(
            self._experiment(manifest.model),
            run_name=f"{manifest.model} {manifest.version}",
            tags=told | user(),
        )
        try:
            yield run
        except BaseException:
            with suppress(Exception):
                self._client.set_terminated(run.info.run_id, "FAILED")
            raise
        self._client.set_terminated(run.info.run_id, "FINISHED")

    def _experiment(self, model: str) -> str:
        """Return the id of a model's experiment; make it if need be."""
        from mlflow.exceptions import MlflowException  # noqa: PLC0415

        artifacts = self._connection.artifacts
        place = None if artifacts is None else (artifacts / model).as_uri()
        try:
            return str(self._client.create_experiment(model, artifact_location=place))
        except MlflowException:
            found = self._client.get_experiment_by_name(model)
            if found is None:
                raise
        if found.lifecycle_stage != "active":
            raise RegistryError(
                f"the experiment {model} in {self._place} was deleted: bring it back by `mlflow experiments "
                f"restore --experiment-id {found.experiment_id}`"
            )
        return str(found.experiment_id)

    def _register(self, manifest: Manifest, told: dict[str, str], run: "Run") -> Registered:
        from mlflow.exceptions import MlflowException  # noqa: PLC0415

        try:
            self._client.create_registered_model(manifest.model, description=manifest.description)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
        made = self._client.create_model_version(
            manifest.model,
            f"{run.info.artifact_uri}/{_FOLDER}",
            run.info.run_id,
            tags=told,
            description=f"{manifest.model} {manifest.version}",
        )
        return _registered(made, ())

    def _found(self, identity: str) -> "Run":
        from mlflow.exceptions import MlflowException  # noqa: PLC0415

        try:
            run = self._client.get_run(identity)
        except MlflowException as error:
            if error.error_code not in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
                raise
            run = None
        if run is None or run.info.lifecycle_stage != "active":
            raise RegistryError(
                f"{self._place} has no run {identity}: `forest-export list` shows the runs that it has"
            )
        return run

    def _unregistered(self, run: "Run", versions: list[Registered]) -> str:
        """Return why a run cannot be approved that has no version."""
        told = run.data.tags
        name = f"{told[MODEL]} {told[VERSION]}"
        for version in versions:
            if version.digest == told.get(DIGEST):
                return (
                    f"run {run.info.run_id} is not the one that registered {name}: that is {version.run}, "
                    f"with the same bundle. Give --run-id {version.run}"
                )
        state = "was begun and has not ended" if run.info.status == "RUNNING" else "was broken off"
        return (
            f"run {run.info.run_id} of {name} {state}: it has registered nothing (it is {run.info.status}). "
            f"`forest-export track …/{told[MODEL]}/{told[VERSION]}` logs the bundle in a new run"
        )

    def _of(self, model: str) -> list[Registered]:
        """Return a model's versions; those alone that forest-export has registered."""
        from mlflow.exceptions import MlflowException  # noqa: PLC0415

        try:
            aliases = self._client.get_registered_model(model).aliases
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            return []
        found = _pages(self._client.search_model_versions, f"name = '{model}'")
        return [
            _registered(
                version,
                tuple(name for name in APPROVALS if str(aliases.get(name)) == str(version.version)),
            )
            for version in found
            if _ours(version)
        ]


def _ours(version: "ModelVersion") -> bool:
    try:
        version_key(version.tags.get(VERSION, ""))
    except ManifestError:
        return False
    return DIGEST in version.tags


def _registered(version: "ModelVersion", approvals: tuple[str, ...]) -> Registered:
    registered = version.creation_timestamp // 1000
    try:
        made = created.from_text(version.tags.get(CREATED, ""))
    except CreatedError:
        # An older forest-export noted none. It was there when it was registered.
        made = registered
    return Registered(
        model=version.name,
        number=int(version.version),
        version=version.tags[VERSION],
        digest=version.tags[DIGEST],
        run=version.run_id or "",
        registered=datetime.fromtimestamp(registered, UTC),
        created=made,
        approvals=approvals,
    )


def _pages(search: Any, *arguments: Any) -> Iterator[Any]:
    """Return all that a search finds, page by page."""
    token = None
    while True:
        page = search(*arguments, page_token=token)
        yield from page
        token = page.token
        if not token:
            return
