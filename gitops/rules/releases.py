"""Release files: the machine's, byte-stable, in history for good."""

from collections.abc import Iterator

from gitops import history, manifests
from gitops.error import GitopsError
from gitops.layout import PROD, STAGING, overlay, release_file
from gitops.release import CONTAINER, DIGEST_VARIABLE, Release
from gitops.tree import Overlay, Tree


def release_file_stable(tree: Tree) -> Iterator[str]:
    """Each release file is, byte for byte, what the tool writes, and alone in its folder.

    A server that follows a volume has none.
    """
    followed = {entry.folder for entry in tree.overlays if _follows(entry)}
    for folder in tree.folders:
        path = release_file(folder.parent.name, folder.name)
        try:
            Release.from_bytes((tree.root / path).read_bytes(), str(path))
        except FileNotFoundError:
            if folder not in followed:
                yield f"{path} is absent: `forest-gitops release` or `promote` writes it; never delete one"
        except GitopsError as error:
            yield str(error)
        others = [file.name for file in (tree.root / path.parent).glob("*") if file.name != path.name]
        if others:
            yield (f"{path.parent} also holds {', '.join(sorted(others))}: people's files belong in {folder}")


def bundle_expected(overlay: Overlay) -> Iterator[str]:
    """The server's container is told which bundle it must hold, by the release and nothing else."""
    if overlay.release is None:
        return
    for template in manifests.pod_templates(overlay.manifests).values():
        for container in manifests.containers(template):
            if container["name"] != CONTAINER:
                continue
            found = [entry for entry in container.get("env", []) if entry["name"] == DIGEST_VARIABLE]
            if found != [{"name": DIGEST_VARIABLE, "value": overlay.release.bundle}]:
                yield (
                    f"container {CONTAINER} has {DIGEST_VARIABLE} as {found}, and the release says "
                    f"{overlay.release.bundle}: no other patch may set it"
                )
    for settings in manifests.of_kind(overlay.manifests, "ConfigMap"):
        if DIGEST_VARIABLE in settings.get("data", {}):
            yield (
                f"{manifests.name(settings)} sets {DIGEST_VARIABLE}: only a release says that, so take it out"
            )


def promoted_from_staging(tree: Tree) -> Iterator[str]:
    """What prod holds, staging has held: nothing reaches prod by another way."""
    if tree.repository.shallow():
        return
    for entry in tree.overlays:
        if entry.environment != PROD or entry.release is None:
            continue
        staging = release_file(STAGING, entry.model)
        file = tree.root / staging
        if file.exists() and file.read_bytes() == entry.release.to_bytes():
            continue
        blob = tree.repository.git("hash-object", "--", str(release_file(PROD, entry.model)))
        if blob not in [step.blob for step in history.steps(tree.repository, "HEAD", staging)]:
            yield (
                f"{PROD} holds {entry.model} {entry.release.tag}, which {STAGING} never held: release it to "
                f"{STAGING} first, then `forest-gitops promote {entry.model}`"
            )


def history_readable(tree: Tree) -> Iterator[str]:
    """Every state that a revert can bring back is a release, so its image is named, and not cleaned up."""
    for entry in tree.overlays:
        path = release_file(entry.environment, entry.model)
        steps = history.in_force(history.steps(tree.repository, "HEAD", path))
        for step in steps[:-1]:
            try:
                history.read(tree.repository, step, path)
            except GitopsError:
                yield (
                    f"{path} was edited by hand in {step.commit[:12]}, so no release names what ran then, "
                    "and a `git revert` would bring that back: put what it held before in force once more, "
                    "then what it holds now, by "
                    f"`forest-gitops rollback {entry.model} --env {entry.environment} --to …`"
                )


def environment_whole(tree: Tree) -> Iterator[str]:
    """The folder of an environment renders each model's overlay, just as it renders by itself."""
    for entry in tree.overlays:
        everything = tree.environments.get(entry.environment)
        if everything is None:
            continue
        missing = [item for item in entry.manifests if item not in everything]
        if missing:
            yield (
                f"{overlay(entry.environment, entry.model).parent} does not render "
                f"{manifests.name(missing[0])} as "
                f"{entry.folder} does: list `{entry.model}` among its resources, and change "
                "nothing on the way"
            )


def _follows(overlay: Overlay) -> bool:
    """Whether the models are a volume's, not the image's."""
    return any(
        manifests.variables(overlay.manifests, container).get("FOREST_WATCH", "0") != "0"
        for template in manifests.pod_templates(overlay.manifests).values()
        for container in manifests.containers(template)
    )
