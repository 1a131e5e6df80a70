"""What renders depends on the tree alone: not on a machine, a network, a moment or a commit."""

import re
from collections.abc import Iterator

from gitops import manifests
from gitops.error import GitopsError
from gitops.layout import KUSTOMIZE
from gitops.tree import Overlay, Tree

_REMOTE = re.compile(r"://|^git@|^(www\.)?(github|gitlab|bitbucket)\.(com|org)[/:]|\?ref=")
_LISTS = (
    "resources",
    "components",
    "bases",
    "crds",
    "configurations",
    "transformers",
    "generators",
    "validators",
)
_GENERATORS = ("configMapGenerator", "secretGenerator")
_PROGRAMS = ("helmCharts", "helmChartInflationGenerator", "helmGlobals")
# A commit's name, or a date: either would make a new ReplicaSet of an old release.
_MOMENT = re.compile(r"(?<![0-9a-f:])[0-9a-f]{40}(?![0-9a-f])|20\d\d-[01]\d-[0-3]\d")


def nothing_remote(tree: Tree) -> Iterator[str]:
    """No kustomization fetches anything, or runs a program."""
    for file in sorted((tree.root / KUSTOMIZE).rglob("kustomization.yaml")):
        place = file.relative_to(tree.root).as_posix()
        try:
            (document,) = manifests.read(file.read_text()) or [{}]
        except GitopsError as error:
            yield f"{place} is {error}"
            continue
        for field in _LISTS:
            for entry in document.get(field) or []:
                if isinstance(entry, str) and _REMOTE.search(entry):
                    yield (
                        f"{place}: {field} has {entry}, which is fetched at each rendering: copy it into "
                        "the tree"
                    )
        for field in _PROGRAMS:
            if field in document:
                yield (
                    f"{place}: {field} runs a program that fetches: render it once, and commit what comes out"
                )


def nothing_of_the_machine(tree: Tree) -> Iterator[str]:
    """No generator takes a variable of whoever renders: kustomize does so for a name without a value."""
    for file in sorted((tree.root / KUSTOMIZE).rglob("kustomization.yaml")):
        try:
            (document,) = manifests.read(file.read_text()) or [{}]
        except GitopsError:
            continue  # nothing_remote says why
        for field in _GENERATORS:
            for generator in document.get(field) or []:
                for name in [*generator.get("envs", []), *filter(None, [generator.get("env")])]:
                    source = file.parent / name
                    lines = source.read_text().splitlines() if source.is_file() else []
                    for line in (line.strip() for line in lines):
                        if line and not line.startswith("#") and "=" not in line:
                            yield (
                                f"{source.relative_to(tree.root).as_posix()} names {line} without a value, "
                                f"which is then that of whoever renders: write {line}=VALUE"
                            )


def nothing_outside_git(tree: Tree) -> Iterator[str]:
    """A copy of the files that Git knows, in another folder, renders the same bytes."""
    for folder, fault in tree.elsewhere.items():
        if fault:
            yield (
                f"{folder}: a copy of {KUSTOMIZE}/ as Git has it is not the same here ({fault}): commit what "
                f"it needs, and let nothing point outside {KUSTOMIZE}/"
            )


def nothing_of_the_moment(overlay: Overlay) -> Iterator[str]:
    """The pod template has no commit and no date in it: a revert must give the very same one."""
    for deployment, template in manifests.pod_templates(overlay.manifests).items():
        metadata = template["metadata"]
        entries = [*metadata.get("labels", {}).items(), *metadata.get("annotations", {}).items()]
        entries += [
            item
            for container in manifests.containers(template)
            for item in manifests.variables(overlay.manifests, container).items()
        ]
        for key, value in entries:
            if _MOMENT.search(str(value)):
                yield (
                    f"Deployment {deployment}: the pod template has {key}: {value}, a commit or a "
                    "date: a revert "
                    "would make new pods for it, so take it out (annotate the Deployment itself if need be)"
                )
