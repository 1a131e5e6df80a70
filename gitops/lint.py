"""Every rule, applied to every overlay."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import product
from typing import Any

from gitops.error import GitopsError
from gitops.repository import GitError, Repository
from gitops.rules import (
    autoscaling,
    availability,
    bundles,
    images,
    life,
    network,
    purity,
    references,
    releases,
    schema,
    security,
    selectors,
    settings,
)
from gitops.tree import Overlay, Tree, read

OVERLAY_RULES: tuple[Callable[[Overlay], Iterator[str]], ...] = (
    images.image_pinned,
    images.image_released,
    images.container_known,
    releases.bundle_expected,
    bundles.bundle_not_swapped,
    settings.settings_immutable,
    settings.settings_named_by_content,
    settings.settings_present,
    selectors.selector_finds_pods,
    autoscaling.replicas_left_to_the_autoscaler,
    autoscaling.requests_present,
    autoscaling.metrics_in_order,
    life.grace_adds_up,
    life.hook_without_a_shell,
    life.probes_numeric,
    life.rollout_ends,
    availability.budget_lets_nodes_drain,
    availability.pods_spread_by_release,
    references.references_found,
    network.peers_not_rewritten,
    security.pod_restricted,
    security.service_links_off,
    security.token_not_mounted,
    security.secrets_by_reference,
    purity.nothing_of_the_moment,
)
# What runs beside the models comes from others, by a tag: no release pins it, and there is one of each.
APP_RULES: tuple[Callable[[Overlay], Iterator[str]], ...] = (
    images.container_known,
    settings.settings_immutable,
    settings.settings_named_by_content,
    settings.settings_present,
    selectors.selector_finds_pods,
    references.references_found,
    network.peers_not_rewritten,
    security.pod_restricted,
    security.service_links_off,
    security.token_not_mounted,
    security.secrets_by_reference,
    purity.nothing_of_the_moment,
)
TREE_RULES: tuple[Callable[[Tree], Iterator[str]], ...] = (
    releases.release_file_stable,
    releases.promoted_from_staging,
    releases.history_readable,
    releases.environment_whole,
    selectors.selector_unchanged,
    security.namespace_restricted,
    schema.schema_valid,
    purity.nothing_remote,
    purity.nothing_of_the_machine,
    purity.nothing_outside_git,
)
RULES = len(OVERLAY_RULES) + len(TREE_RULES)


@dataclass(frozen=True, slots=True)
class Finding:
    """What a rule found: the rule's name, and a message that says where and how to mend it."""

    rule: str
    message: str

    def __str__(self) -> str:
        return f"{self.message} [{self.rule}]"


@dataclass(frozen=True, slots=True)
class Report:
    """What was looked at, what was found, and what could not be looked at."""

    overlays: int
    findings: tuple[Finding, ...]
    notes: tuple[str, ...]


def lint(repository: Repository, against: str | None) -> Report:
    """Check the working tree; compare selectors with where it left the branch `against`."""
    notes = []
    compared = _merge_base(repository, against)
    if compared is None:
        notes.append("there is no branch to compare selectors with: name one with --against")
    if repository.shallow():
        notes.append(
            "this clone is shallow, so releases in history were not all checked: `git fetch --unshallow`"
        )
    with read(repository, compared) as tree:
        found = [Finding("builds", error) for _, error in tree.failures]
        for rules, overlays in ((OVERLAY_RULES, tree.overlays), (APP_RULES, tree.apps)):
            for rule, overlay in product(rules, overlays):
                told = _told(rule, overlay)
                found += [Finding(_name(rule), f"{overlay.folder}: {message}") for message in told]
        for check in TREE_RULES:
            found += [Finding(_name(check), message) for message in _told(check, tree)]
        return Report(len(tree.folders), tuple(found), tuple(notes))


def _merge_base(repository: Repository, against: str | None) -> str | None:
    for branch in [against] if against else ["origin/HEAD", "origin/main"]:
        try:
            return repository.git("merge-base", "HEAD", branch)
        except GitError as error:
            if against:
                raise GitopsError(
                    f"--against {against}: this clone has no commit in common with it ({error}): fetch it"
                ) from error
    return None


def _told(rule: Callable[[Any], Iterator[str]], subject: Overlay | Tree) -> list[str]:
    try:
        return list(rule(subject))
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        # schema_valid says where; but what could not be judged does not pass.
        return [f"an object is not formed as its kind is ({error!r}): mend what the other rules tell first"]


def _name(rule: Callable[..., Iterator[str]]) -> str:
    return rule.__name__.replace("_", "-")
