"""The command ``forest-gitops``."""

import argparse
import json
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from gitops.error import GitopsError
from gitops.layout import PROD, STAGING
from gitops.publication import Destination
from gitops.repository import Repository


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


def _release(options: argparse.Namespace, repository: Repository) -> int:
    from gitops.shipping import describe, ship  # noqa: PLC0415

    release = describe(
        options.model,
        options.version,
        image=options.image,
        digest=options.digest,
        bundle=options.bundle,
        server_version=options.server_version or _server_version(),
    )
    published = ship(repository, _destination(options), options.model, release)
    if published is None:
        print(f"{STAGING} holds {options.model} {release.tag} already: nothing to do")
        return 0
    print(f"{published.commit[:12]} {STAGING} holds {options.model} {release.tag}")
    _say(published.notes)
    return 0


def _promote(options: argparse.Namespace, repository: Repository) -> int:
    from gitops import promotion  # noqa: PLC0415

    if options.dry_run:
        release, difference = promotion.preview(repository, _destination(options), options.model)
        print(
            difference.rstrip("\n")
            or f"{PROD} holds {options.model} {release.tag} already: nothing would change"
        )
        return 0
    release, published = promotion.promote(repository, _destination(options), options.model)
    if published is None:
        print(f"{PROD} holds {options.model} {release.tag} already: nothing to do")
        return 0
    print(f"{published.commit[:12]} {PROD} holds {options.model} {release.tag}")
    if by := promotion.taken_back(repository, release, options.model, f"{published.commit}^1"):
        _say([f"{release.tag} was in {PROD} before, and {by[:12]} took it back: see that its reason is gone"])
    _say(published.notes)
    return 0


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

    found = status.rows(repository)
    print(json.dumps(status.document(found), indent=2) if options.json else status.table(found))
    if note := status.behind(repository):
        _say([note])
    return 0


def _lint(options: argparse.Namespace, repository: Repository) -> int:
    from gitops.lint import RULES, lint  # noqa: PLC0415

    report = lint(repository, options.against)
    for finding in report.findings:
        print(finding)
    _say(report.notes)
    found = f"{len(report.findings)} found" if report.findings else "nothing found"
    print(f"{report.overlays} overlays, {RULES} rules: {found}")
    return 1 if report.findings else 0


def _say(notes: tuple[str, ...] | list[str]) -> None:
    for note in notes:
        print(f"forest-gitops: {note}", file=sys.stderr)


def _destination(options: argparse.Namespace) -> Destination:
    return Destination(options.remote, options.branch, options.push)


def _server_version() -> str:
    try:
        return version("forest-serving")
    except PackageNotFoundError as error:
        raise GitopsError("forest-serving is not installed, so give --server-version X.Y.Z") from error


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "forest-gitops",
        description="Release, promote and roll back models as commits of one file, and check the manifests.",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    writes = argparse.ArgumentParser(add_help=False)
    writes.add_argument("model", metavar="MODEL", help="the model, as fraud")
    writes.add_argument(
        "--push", action=argparse.BooleanOptionalAction, default=True,
        help="push the commit to the remote's branch (default), or leave it in this clone",
    )  # fmt: skip
    writes.add_argument("--remote", default="origin", metavar="NAME", help="the remote to push to (origin)")
    writes.add_argument(
        "--branch", metavar="NAME", help="the branch that environments follow (the one checked out)"
    )

    release = commands.add_parser("release", parents=[writes], help="write staging's release file")
    release.add_argument("version", metavar="VERSION", help="the bundle's version, X.Y.Z")
    release.add_argument("--image", required=True, metavar="REPO", help="the image's repository, no tag")
    release.add_argument("--digest", required=True, metavar="sha256:…", help="the image's digest")
    release.add_argument(
        "--bundle", required=True, type=Path, metavar="DIR", help="the bundle, …/MODEL/VERSION"
    )
    release.add_argument(
        "--server-version", metavar="X.Y.Z", help="the server's version in the image (the installed one)"
    )
    release.set_defaults(run=_release)

    promote = commands.add_parser("promote", parents=[writes], help="copy staging's release to prod")
    promote.add_argument("--dry-run", action="store_true", help="show how prod's manifests would change")
    promote.set_defaults(run=_promote)

    rollback = commands.add_parser("rollback", parents=[writes], help="take the release in force back")
    rollback.add_argument("--env", required=True, choices=[STAGING, PROD], help="the environment")
    rollback.add_argument("--to", metavar="VERSION", help="an earlier version or tag, not just one step back")
    rollback.set_defaults(run=_rollback)

    status = commands.add_parser("status", help="tell what HEAD holds, model by environment")
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
