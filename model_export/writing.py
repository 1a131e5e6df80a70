"""Writes a bundle: aside first, and under its name only when all of it is there and loads."""

import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import model_bundle
from model_bundle import bundle, digest
from model_bundle.manifest import Manifest
from model_export.error import ExportError


class WritingError(ExportError):
    """A version that exists, or a folder that cannot be written to."""


def refuse_existing(models: Path, model: str, version: str) -> None:
    """Refuse to make a version that exists, or one that could not be written. Changes nothing.

    Raises
    ------
    WritingError
        If so.
    """
    folder = models / model / version
    if folder.exists() or folder.is_symlink():
        raise _exists(folder)
    parent = next(parent for parent in folder.absolute().parents if parent.exists())
    if not parent.is_dir() or not os.access(parent, os.W_OK | os.X_OK):
        raise WritingError(f"{parent}: not a folder that can be written to")


def write(models: Path, manifest: Manifest, files: Mapping[str, bytes]) -> tuple[Path, str]:
    """Write a bundle to ``models/<model>/<version>``, which must not exist.

    It is written to a hidden folder beside that, loaded from there as a server would, and renamed. Whatever
    goes wrong, nothing stays behind.

    Parameters
    ----------
    models
        The folder of all models. It is made if need be.
    manifest
        All but its ``files``.
    files
        Each other file's bytes, by name.

    Returns
    -------
    folder : Path
    digest : str

    Raises
    ------
    WritingError
        If the version exists, or the folder cannot be written to.
    """
    manifest = replace(manifest, files={name: digest.of_bytes(data) for name, data in sorted(files.items())})
    content = manifest.to_bytes()
    _check_schema(content)
    return keep(models / manifest.model / manifest.version, {**files, bundle.MANIFEST: content})


def keep(folder: Path, files: Mapping[str, bytes], created: int | None = None) -> tuple[Path, str]:
    """Put a bundle's files, the manifest among them, in a folder that must not exist: see `write`.

    Parameters
    ----------
    folder
        Where they belong.
    files
        Each file's bytes, by name.
    created
        When the bundle was made, in seconds since the epoch; now if that is not said.

    Raises
    ------
    BundleError
        If they are no bundle of the model and version that the folder says.
    WritingError
        If the folder exists, or cannot be written to.
    """
    try:
        with _folder(folder.parent), _aside(folder) as aside:
            for name, data in files.items():
                (aside / name).write_bytes(data)
            loaded = bundle.load(aside)
            loaded.session.close()
            if created is not None:
                os.utime(aside / bundle.MANIFEST, (created, created))
            _flush(aside)
            if folder.exists():
                raise _exists(folder)
            aside.rename(folder)
    except OSError as error:
        if folder.exists():
            raise _exists(folder) from error
        raise WritingError(f"{error.filename or folder}: {error.strerror or error}") from error
    return folder, loaded.digest


def _flush(folder: Path) -> None:
    """Have the disk hold all of a folder's files: the rename must not outlive them when power fails."""
    for path in folder.iterdir():
        with path.open("rb") as file:
            os.fsync(file.fileno())


def _check_schema(manifest: bytes) -> None:
    """Check a manifest by the schema that other tools go by."""
    import jsonschema  # noqa: PLC0415

    schema = Path(model_bundle.__path__[0]) / "manifest.schema.json"
    jsonschema.Draft202012Validator(json.loads(schema.read_bytes())).validate(json.loads(manifest))


@contextmanager
def _folder(folder: Path) -> Iterator[None]:
    """Make a folder and its parents; take back those that are empty in the end."""
    with ExitStack() as made:
        for parent in [*reversed(folder.parents), folder]:
            with suppress(FileExistsError):
                parent.mkdir()
                made.callback(_remove_if_empty, parent)
        yield


def _remove_if_empty(folder: Path) -> None:
    with suppress(OSError):
        folder.rmdir()


@contextmanager
def _aside(folder: Path) -> Iterator[Path]:
    """Make a folder of the same last two names, as loading wants it, inside a hidden one."""
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent) as hidden:
        aside = Path(hidden) / folder.parent.name / folder.name
        aside.mkdir(parents=True)
        yield aside


def _exists(folder: Path) -> WritingError:
    return WritingError(f"{folder} exists, and a version is never overwritten: choose another --version")
