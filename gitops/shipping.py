"""The way in: a new release of a model, into staging."""

from pathlib import Path

from gitops import history
from gitops.error import GitopsError
from gitops.layout import STAGING, overlay, release_file
from gitops.publication import Destination, Published, base, publish, writing
from gitops.release import Release
from gitops.repository import Repository
from model_bundle.bundle import BundleError, read_manifest


def describe(
    model: str, version: str, *, image: str, digest: str, bundle: Path, server_version: str
) -> Release:
    """Return the release of a bundle; refuse a folder that holds another model or version."""
    try:
        # Where it was given as `.`, its own name counts.
        manifest, bundle_digest = read_manifest(bundle.resolve())
    except BundleError as error:
        raise GitopsError(f"{bundle} is not a bundle: {error}") from error
    if (manifest.model, manifest.version) != (model, version):
        raise GitopsError(
            f"{bundle} holds {manifest.model} {manifest.version}, not {model} {version}: "
            f"give --bundle the folder …/{model}/{version}"
        )
    return Release(image, version, server_version, digest, bundle_digest)


def ship(
    repository: Repository, destination: Destination, model: str, release: Release
) -> tuple[str, Published | None]:
    """Commit a release to staging. Return a commit that holds it; and None if that was there already."""
    start = base(repository, destination)
    path = release_file(STAGING, model)
    folder = overlay(STAGING, model)
    if repository.read(start, folder / "kustomization.yaml") is None:
        raise GitopsError(
            f"{model} has no overlay {folder} at {start[:12]}, which is made by people: `forest-gitops new "
            f"{model} {release.version} --image {release.image} --digest {release.digest} --bundle …`"
        )
    data = release.to_bytes()
    if repository.read(start, path) == data:
        return start, None
    _must_agree_with_the_past(repository, start, model, release)

    change = writing({path: data}, f"Release {model} {release.tag} to {STAGING}", release.pins)
    published = publish(repository, destination, start, paths=[path], change=change)
    return published.commit, published


def _must_agree_with_the_past(repository: Repository, start: str, model: str, release: Release) -> None:
    path = release_file(STAGING, model)
    steps = [step for step in history.steps(repository, start, path) if step.blob]
    for step in steps:
        try:
            earlier = history.read(repository, step, path)
        except GitopsError:
            continue  # what a hand wrote is not taken as a record
        if earlier.version == release.version and earlier.bundle != release.bundle:
            raise GitopsError(
                f"{model} {release.version} was released with the bundle {earlier.bundle} "
                f"({step.commit[:12]}), and this one is {release.bundle}: a version never changes, "
                f"so give the new bundle a new one"
            )
        if earlier.tag == release.tag and earlier.image == release.image and earlier.digest != release.digest:
            raise GitopsError(
                f"{release.image}:{release.tag} was released as {earlier.digest} "
                f"({step.commit[:12]}), and this image is {release.digest}: a tag never moves, "
                f"so raise the server's version"
            )
        if step is steps[-1] and release.order < earlier.order:
            raise GitopsError(
                f"staging holds {model} {earlier.tag}, which is newer than {release.tag}: to go back, "
                f"`forest-gitops rollback {model} --env {STAGING}`"
            )
