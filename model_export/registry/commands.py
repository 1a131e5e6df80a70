"""The commands of ``forest-export`` that ask the registry."""

import argparse
import re
import sys
from pathlib import Path

from model_bundle import created
from model_export.registry import connection
from model_export.registry.error import RegistryError
from model_export.registry.registry import APPROVALS, Registered, Registry

NAMES = ("track", "list", "promote", "fetch")
_SHOWN = len("sha256:") + 12


def opened(options: argparse.Namespace, *, make: bool = False) -> Registry:
    """Return the registry that the options name: see `connection.connect`."""
    return Registry(connection.connect(options.tracking_uri, make=make))


def log(registry: Registry, folder: Path) -> None:
    """Log and register a bundle that was just written; if that fails, say where it is."""
    try:
        _track(registry, folder)
    except (RegistryError, KeyboardInterrupt) as error:
        failed = RegistryError(
            f"{str(error) or 'interrupted'}. The bundle is in {folder}, and not registered: "
            f"`forest-export track {folder}` tries again"
        )
        failed.status = error.status if isinstance(error, RegistryError) else 130
        raise failed from error


def _track(registry: Registry, folder: Path) -> None:
    version, new = registry.track(folder)
    if not new:
        _say(f"{version} is registered already, with this very bundle: nothing to do")
    print(f"run        {version.run}")


def _list(options: argparse.Namespace) -> None:
    registry = opened(options)
    versions = registry.versions()
    print(_table(versions), flush=True)
    for run in registry.unfinished(versions):
        _say(f"run {run.info.run_id} ({run.info.run_name}) is {run.info.status} and has registered nothing")


def _promote(options: argparse.Namespace) -> None:
    version, before = opened(options).approve(options.run_id, options.to)
    if before == version:
        print(f"{version} is approved for {options.to} already: nothing to do")
    elif before is None:
        print(f"{version} is approved for {options.to}")
    else:
        print(f"{version} is approved for {options.to}, and {before.version} no longer is")


def _fetch(options: argparse.Namespace) -> None:
    registry = opened(options)
    version = registry.approved(*options.version)
    folder, new = registry.fetch(version, options.out)
    if not new:
        _say(f"{folder} is there already, and whole: nothing to do")
    print(folder)
    print(f"digest     {version.digest}")
    if made := created.of(folder):
        print(f"created    {created.to_text(made)}")


def _table(versions: list[Registered]) -> str:
    rows = [("MODEL", "VERSION", "DIGEST", "APPROVED FOR", "RUN", "REGISTERED")]
    rows += [
        (
            version.model,
            version.version,
            version.digest[:_SHOWN],
            ", ".join(version.approvals) or "-",
            version.run,
            version.registered.isoformat(),
        )
        for version in versions
    ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def _say(line: str) -> None:
    print(f"forest-export: {line}", file=sys.stderr, flush=True)


def _approved(text: str) -> tuple[str, str]:
    # The name becomes part of a path.
    found = re.fullmatch(rf"([a-z][a-z0-9_-]{{0,62}})@({'|'.join(APPROVALS)})", text)
    if not found:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not MODEL@{' or MODEL@'.join(APPROVALS)}, as fraud@{APPROVALS[-1]}"
        )
    return found[1], found[2]


def add_place(parser: argparse.ArgumentParser) -> None:
    """Add the option that says where the registry is."""
    parser.add_argument(
        "--tracking-uri",
        metavar="URI",
        help="http(s)://HOST:PORT of an MLflow tracking server, or sqlite:///FILE (MLFLOW_TRACKING_URI; "
        f"{connection.EMBEDDED})",
    )


def parser() -> argparse.ArgumentParser:
    """Return the parser of these commands."""
    found = argparse.ArgumentParser(
        "forest-export", description="Log bundles, and say what each is approved for."
    )
    commands = found.add_subparsers(required=True, metavar="COMMAND")
    place = argparse.ArgumentParser(add_help=False)
    place.set_defaults(track=True)
    add_place(place)

    track = commands.add_parser("track", parents=[place], help="log and register a bundle that is there")
    track.add_argument("folder", type=Path, metavar="DIR", help="the bundle, …/MODEL/VERSION")
    track.set_defaults(run=lambda options: _track(opened(options, make=True), options.folder))

    show = commands.add_parser("list", parents=[place], help="tell what is registered, and approved for what")
    show.set_defaults(run=_list)

    promote = commands.add_parser(
        "promote", parents=[place], help="approve what a run registered; what runs does not change"
    )
    promote.add_argument("--run-id", required=True, metavar="ID", help="the run, as `list` has it")
    promote.add_argument("--to", required=True, choices=APPROVALS, help="what it is approved for")
    promote.set_defaults(run=_promote)

    fetch = commands.add_parser("fetch", parents=[place], help="bring back the bundle that is approved")
    fetch.add_argument(
        "version", type=_approved, metavar="MODEL@APPROVAL", help="as fraud@production, or fraud@staging"
    )
    fetch.add_argument(
        "--out", type=Path, default=Path("models"), metavar="DIR", help="the folder of all models (models)"
    )
    fetch.set_defaults(run=_fetch)
    return found
