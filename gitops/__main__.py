"""The command ``forest-gitops``."""

import argparse
import json
import os
import re
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING

from gitops.error import GitopsError
from gitops.layout import PROD, STAGING
from gitops.publication import Destination
from gitops.release import Release
from gitops.repository import Repository

if TYPE_CHECKING:
    from gitops.argocd import ArgoCD
    from gitops.delivery import Wanted
    from gitops.promotion import Approval


def main(arguments: list[str] | None = None) -> int:
    """Run the command; return its exit status."""
    options = _parser().parse_args(arguments)
    try:
        return int(options.run(options, Repository(Path.cwd())))
    except GitopsError as error:
        print(f"forest-gitops: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("forest-gitops: interrupted", file=sys.stderr)
        return 130


def _new(options: argparse.Namespace, repository: Repository) -> int:
    from gitops.model import begin  # noqa: PLC0415

    for path in begin(repository.folder, options.model, _described(options)):
        print(path)
    _say(["written, and not committed: run `make golden`, look at all of it, and commit it"])
    return 0


def _release(options: argparse.Namespace, repository: Repository) -> int:
    from gitops.delivery import Wanted  # noqa: PLC0415
    from gitops.shipping import ship  # noqa: PLC0415

    release = _described(options)
    if options.wait is not None and not options.push:
        raise GitopsError(
            "--wait and --no-push exclude each other: Argo CD never sees what stays in this clone"
        )
    argocd = None if options.wait is None else _needed(_argocd(options), "--wait")
    commit, published = ship(repository, _destination(options), options.model, release)
    if published is None:
        print(f"{STAGING} holds {options.model} {release.tag} already: nothing to do", flush=True)
    else:
        print(f"{published.commit[:12]} {STAGING} holds {options.model} {release.tag}", flush=True)
        _say(published.notes)
    if argocd is not None:
        _wait(options, argocd, repository, [Wanted(STAGING, options.model, release, commit)])
    return 0


def _promote(options: argparse.Namespace, repository: Repository) -> int:
    from gitops import promotion  # noqa: PLC0415

    asked = [_approved(options), _soak(options, repository)]

    def approval(release: Release, commit: str) -> str:
        return "\n".join(filter(None, [ask(release, commit) for ask in asked]))

    if options.dry_run:
        release, commit, difference = promotion.preview(repository, _destination(options), options.model)
        if not difference:
            print(f"{PROD} holds {options.model} {release.tag} already: nothing would change")
            return 0
        print(difference.rstrip("\n"), flush=True)
        approval(release, commit)
        return 0
    release, published = promotion.promote(repository, _destination(options), options.model, approval)
    if published is None:
        print(f"{PROD} holds {options.model} {release.tag} already: nothing to do")
        return 0
    print(f"{published.commit[:12]} {PROD} holds {options.model} {release.tag}")
    if by := promotion.taken_back(repository, release, options.model, f"{published.commit}^1"):
        _say([f"{release.tag} was in {PROD} before, and {by[:12]} took it back: see that its reason is gone"])
    _say(published.notes)
    return 0


def _approved(options: argparse.Namespace) -> "Approval":
    """Return what asks the model registry whether a release is approved, where that is wanted."""
    from gitops.registry import Credentials, Registry  # noqa: PLC0415

    address = options.tracking_uri or os.environ.get("MLFLOW_TRACKING_URI")
    if not options.approved:
        if options.tracking_uri:
            raise GitopsError("--tracking-uri is where --approved asks: give that too")
        return lambda release, commit: ""
    if not address:
        raise GitopsError(
            "--approved needs MLflow's address: give --tracking-uri URI, or set MLFLOW_TRACKING_URI"
        )
    names = ("MLFLOW_TRACKING_TOKEN", "MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD")
    registry = Registry(address, Credentials(*(os.environ.get(name, "") for name in names)))

    def approve(release: Release, _: str) -> str:
        try:
            remark = registry.approved(options.model, release)
        except GitopsError as error:
            raise GitopsError(f"{error}. Nothing was promoted") from error
        _say([remark])
        return remark

    return approve


def _soak(options: argparse.Namespace, repository: Repository) -> "Approval":
    """Return what asks Argo CD whether staging has had a release long enough, where its address is known."""
    from gitops import delivery  # noqa: PLC0415

    argocd = None if options.without_soak is not None else _argocd(options)
    if options.soak is not None:
        _needed(argocd, "--soak")

    def approve(release: Release, commit: str) -> str:
        if argocd is None:
            return "" if options.without_soak is None else f"Promoted without soak: {options.without_soak}"
        commits = delivery.Commits(repository, options.remote)
        wanted = delivery.Wanted(STAGING, options.model, release, commit)
        soak = delivery.SOAK if options.soak is None else options.soak
        try:
            _say([delivery.soaked(argocd, commits, wanted, soak)])
        except GitopsError as error:
            raise GitopsError(
                f"{error}. Nothing was promoted. Where that cannot be waited for, say why by --without-soak: "
                "the commit keeps it"
            ) from error
        return ""

    return approve


def _rollback(options: argparse.Namespace, repository: Repository) -> int:
    from gitops.rollback import rollback  # noqa: PLC0415

    done = rollback(repository, _destination(options), options.model, options.env, options.to)
    if done.published is None:
        print(f"{options.env} holds {options.model} {done.back.tag} already: nothing to do")
        return 0
    print(f"{done.published.commit[:12]} {options.env} is back on {options.model} {done.back.tag}")
    _say(done.notes)
    return 0


def _status(options: argparse.Namespace, repository: Repository) -> int:
    from gitops import status  # noqa: PLC0415

    argocd = None if options.wait is None else _needed(_argocd(options), "--wait")
    found, faults = status.rows(repository, options.model, options.env)
    text = json.dumps(status.document(found), indent=2) if options.json else status.table(found)
    print(text, flush=True)
    if note := status.behind(repository):
        _say([note])
    _say(faults)
    if argocd is not None:
        _wait(options, argocd, repository, status.wanted(repository, found))
    return 1 if faults else 0


def _lint(options: argparse.Namespace, repository: Repository) -> int:
    from gitops.lint import RULES, lint  # noqa: PLC0415

    report = lint(repository, options.against)
    for finding in report.findings:
        print(finding)
    _say(report.notes)
    found = f"{len(report.findings)} found" if report.findings else "nothing found"
    print(f"{report.overlays} overlays, {RULES} rules: {found}")
    return 1 if report.findings else 0


def _wait(
    options: argparse.Namespace, argocd: "ArgoCD", repository: Repository, wanted: "list[Wanted]"
) -> None:
    from gitops import delivery  # noqa: PLC0415

    delivery.wait(
        argocd, delivery.Commits(repository, options.remote), wanted, options.wait, lambda text: _say([text])
    )


def _argocd(options: argparse.Namespace) -> "ArgoCD | None":
    """Return the Argo CD whose address is known, by the option or as the argocd command finds it."""
    from gitops.argocd import ArgoCD  # noqa: PLC0415

    address = options.argocd or os.environ.get("ARGOCD_SERVER")
    return ArgoCD(address, os.environ.get("ARGOCD_AUTH_TOKEN", "")) if address else None


def _needed(argocd: "ArgoCD | None", option: str) -> "ArgoCD":
    if argocd is None:
        raise GitopsError(f"{option} needs Argo CD's address: give --argocd ADDRESS, or set ARGOCD_SERVER")
    return argocd


def _say(notes: tuple[str, ...] | list[str]) -> None:
    for note in notes:
        print(f"forest-gitops: {note}", file=sys.stderr)


def _destination(options: argparse.Namespace) -> Destination:
    return Destination(options.remote, options.branch, options.push)


def _described(options: argparse.Namespace) -> Release:
    from gitops.shipping import describe  # noqa: PLC0415

    return describe(
        options.model,
        options.version,
        image=options.image,
        digest=options.digest,
        bundle=options.bundle,
        server_version=options.server_version or _server_version(),
    )


def _server_version() -> str:
    try:
        return version("forest-serving")
    except PackageNotFoundError as error:
        raise GitopsError("forest-serving is not installed, so give --server-version X.Y.Z") from error


def _duration(text: str) -> float:
    found = re.fullmatch(r"(\d{1,6})([smh])", text)
    if not found:
        raise argparse.ArgumentTypeError(f"{text!r} is not a length of time: give 30s, 10m or 2h")
    return float(int(found[1]) * {"s": 1, "m": 60, "h": 3600}[found[2]])


def _model(text: str) -> str:
    # It becomes part of a path.
    if not re.fullmatch(r"[a-z][a-z0-9_-]{0,62}", text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a model's name, as fraud")
    return text


def _reason(text: str) -> str:
    if not (reason := " ".join(text.split())):
        raise argparse.ArgumentTypeError("say why: the commit keeps it")
    return reason


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "forest-gitops",
        description="Release, promote and roll back models as commits of one file, and check the manifests.",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    remote = argparse.ArgumentParser(add_help=False)
    remote.add_argument(
        "--remote", default="origin", metavar="NAME", help="the remote that environments follow (origin)"
    )

    model = argparse.ArgumentParser(add_help=False)
    model.add_argument("model", type=_model, metavar="MODEL", help="the model, as fraud")

    writes = argparse.ArgumentParser(add_help=False, parents=[model, remote])
    writes.add_argument(
        "--push", action=argparse.BooleanOptionalAction, default=True,
        help="push the commit to the remote's branch (default), or leave it in this clone",
    )  # fmt: skip
    writes.add_argument(
        "--branch", metavar="NAME", help="the branch that environments follow (the one checked out)"
    )

    asks = argparse.ArgumentParser(add_help=False)
    asks.add_argument(
        "--argocd", metavar="ADDRESS",
        help="Argo CD's HOST[:PORT] by https, or http://HOST[:PORT] (ARGOCD_SERVER). Its token is read from "
        "ARGOCD_AUTH_TOKEN",
    )  # fmt: skip

    waits = argparse.ArgumentParser(add_help=False, parents=[asks])
    waits.add_argument(
        "--wait", nargs="?", type=_duration, const=_duration("10m"), metavar="TIME",
        help="wait until Argo CD says Synced and Healthy, as --wait=5m (10m)",
    )  # fmt: skip

    pins = argparse.ArgumentParser(add_help=False)
    pins.add_argument("version", metavar="VERSION", help="the bundle's version, X.Y.Z")
    pins.add_argument("--image", required=True, metavar="REPO", help="the image's repository, no tag")
    pins.add_argument("--digest", required=True, metavar="sha256:…", help="the image's digest")
    pins.add_argument("--bundle", required=True, type=Path, metavar="DIR", help="the bundle, …/MODEL/VERSION")
    pins.add_argument(
        "--server-version", metavar="X.Y.Z", help="the server's version in the image (the installed one)"
    )

    new = commands.add_parser(
        "new", parents=[model, pins], help="write a new model's files, with its first release for staging"
    )
    new.set_defaults(run=_new)

    release = commands.add_parser(
        "release", parents=[writes, pins, waits], help="write staging's release file"
    )
    release.set_defaults(run=_release)

    promote = commands.add_parser("promote", parents=[writes, asks], help="copy staging's release to prod")
    promote.add_argument(
        "--approved", action="store_true",
        help="refuse a release whose bundle the model registry has not approved for production",
    )  # fmt: skip
    promote.add_argument(
        "--tracking-uri", metavar="URI",
        help="the registry's HOST[:PORT] by https, or http://HOST[:PORT] (MLFLOW_TRACKING_URI). Its token is "
        "read from MLFLOW_TRACKING_TOKEN",
    )  # fmt: skip
    promote.add_argument("--dry-run", action="store_true", help="show how prod's manifests would change")
    soak = promote.add_mutually_exclusive_group()
    soak.add_argument(
        "--soak", type=_duration, metavar="TIME",
        help="how long staging must have had it Synced and Healthy, where Argo CD's address is known (10m)",
    )  # fmt: skip
    soak.add_argument(
        "--without-soak", type=_reason, metavar="REASON", help="do not ask Argo CD; the commit says why"
    )
    promote.set_defaults(run=_promote)

    rollback = commands.add_parser("rollback", parents=[writes], help="take the release in force back")
    rollback.add_argument("--env", required=True, choices=[STAGING, PROD], help="the environment")
    rollback.add_argument("--to", metavar="VERSION", help="an earlier version or tag, not just one step back")
    rollback.set_defaults(run=_rollback)

    status = commands.add_parser(
        "status", parents=[remote, waits], help="tell what HEAD holds, model by environment"
    )
    status.add_argument("model", nargs="?", type=_model, metavar="MODEL", help="of this model alone")
    status.add_argument("--env", choices=[STAGING, PROD], help="in this environment alone")
    status.add_argument("--json", action="store_true", help="the same as JSON, nothing shortened")
    status.set_defaults(run=_status)

    lint = commands.add_parser(
        "lint", help="render every overlay and check the rules that keep a revert safe"
    )
    lint.add_argument(
        "--against", metavar="BRANCH", help="the branch whose selectors must not change (origin's main one)"
    )
    lint.set_defaults(run=_lint)
    return parser


if __name__ == "__main__":
    sys.exit(main())
