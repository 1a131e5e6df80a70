"""A bundle: the folder ``<models>/<model>/<version>`` that holds a version of a model; checked and loaded."""

from dataclasses import dataclass
from pathlib import Path

from model_bundle import decision, digest, golden
from model_bundle.decision import Decision, Estimate
from model_bundle.encoding import Encoder
from model_bundle.golden import GoldenRowError
from model_bundle.manifest import Manifest, ManifestError
from model_bundle.reference import REFERENCE
from model_bundle.runtime import RuntimeRefusedError
from model_bundle.session import Session

MANIFEST = "manifest.json"
GRAPH = "model.onnx"
GOLDEN = "golden.jsonl"
MODEL_CARD = "model_card.html"
FILES = (GRAPH, GOLDEN, REFERENCE, MODEL_CARD)


class BundleError(ValueError):
    """A bundle that failed a check. The message names the file and the fault."""


@dataclass(frozen=True, slots=True)
class Bundle:
    """A bundle that passed every check, ready to score."""

    manifest: Manifest
    digest: str
    encoder: Encoder
    session: Session
    decision: Decision | Estimate


def read_manifest(folder: Path) -> tuple[Manifest, str]:
    """Read a bundle's manifest; return it with the bundle's digest.

    Raises
    ------
    BundleError
        If it cannot be read, or is not of the model and version that its folder says.
    """
    try:
        data = (folder / MANIFEST).read_bytes()
        manifest = Manifest.from_bytes(data)
    except (OSError, ManifestError) as error:
        raise BundleError(f"{MANIFEST}: {_reason(error)}") from error
    if (manifest.model, manifest.version) != (folder.parent.name, folder.name):
        raise BundleError(
            f"{MANIFEST} is of {manifest.model} {manifest.version}, but the folder is "
            f"{folder.parent.name}/{folder.name}"
        )
    return manifest, digest.of_bytes(data)


def load(folder: Path) -> Bundle:
    """Check a bundle and make it ready to score.

    In this order: the manifest, every file's digest, ONNX Runtime's version, the graph, the golden rows.

    Raises
    ------
    BundleError
        For the first check that fails.
    """
    return check(folder, *read_manifest(folder))


def check(folder: Path, manifest: Manifest, bundle_digest: str) -> Bundle:
    """Check the rest of a bundle whose manifest `read_manifest` has read, and make it ready to score.

    Raises
    ------
    BundleError
        For the first check that fails.
    """
    files = _read_files(folder, manifest)
    encoder = Encoder(manifest.features)
    decided = decision.of(manifest)
    try:
        session = Session(files[GRAPH], manifest.graph, encoder.row)
    except RuntimeRefusedError as error:
        raise BundleError(f"{GRAPH}: {error}") from error
    try:
        golden.replay(golden.from_bytes(files[GOLDEN]), encoder, session, decided)
    except (GoldenRowError, RuntimeRefusedError) as error:
        session.close()
        raise BundleError(f"{GOLDEN}: {error}") from error
    return Bundle(manifest, bundle_digest, encoder, session, decided)


def _read_files(folder: Path, manifest: Manifest) -> dict[str, bytes]:
    if missing := sorted(set(FILES) - set(manifest.files)):
        raise BundleError(f"{MANIFEST}: files: lacks {', '.join(missing)}")
    files = {}
    for name, expected in manifest.files.items():
        try:
            files[name] = (folder / name).read_bytes()
        except OSError as error:
            raise BundleError(f"{name}: {_reason(error)}") from error
        found = digest.of_bytes(files[name])
        if found != expected:
            raise BundleError(f"{name}: its digest is {found}, but the manifest says {expected}")
    return files


def _reason(error: Exception) -> str:
    return error.strerror or str(error) if isinstance(error, OSError) else str(error)
