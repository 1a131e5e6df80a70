"""The command ``forest-audit``: erase records, or check that there is nothing but records."""

import argparse
import sys
from pathlib import Path

from server.audit import erasure, files
from server.audit.erasure import Row


class _UsageError(Exception):
    """What was asked for cannot be done. The message says why."""


def main(arguments: list[str] | None = None) -> int:
    """Run the command; return its exit status: 0 done, 1 faults found, 2 unusable, 3 some are left."""
    options = _parser().parse_args(arguments)
    try:
        if not options.folder.is_dir():
            raise _UsageError(f"{options.folder} is no folder")
        return _erase(options) if options.command == "erase" else _verify(options.folder)
    except _UsageError as error:
        _say(str(error))
    except OSError as error:
        _say(f"{error.filename or 'output'}: {error.strerror or error}")
    return 2


def _erase(options: argparse.Namespace) -> int:
    rows: set[Row] = {(request_id, None) for request_id in options.request_id}
    if options.request_ids:
        rows |= set(_listed(options.request_ids))
    if not rows:
        raise _UsageError("nothing to erase: name requests by --request-id or --request-ids")
    # By an empty id all that callers gave none would go.
    if any(not request_id for request_id, _ in rows):
        raise _UsageError("an empty request id is no request's")
    erased = erasure.erase(options.folder, rows)
    print(f"erased {erased.records} records from {erased.files} of {erased.looked_at} files")
    for name, found in erased.left:
        print(f"left {found} records in {name}: its server still writes to it. Erase again once it is closed")
    return 3 if erased.left else 0


def _listed(path: Path) -> list[Row]:
    """Read a file of request ids, one a line, each perhaps with a tab and the place of a row."""
    rows: list[Row] = []
    try:
        # Some editors begin a file with a mark of its bytes' order.
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise _UsageError(f"{path} is no UTF-8 (byte {error.start})") from error
    # Not by `splitlines`: an id may have in it what ends a line there, and its parts are ids of others.
    for number, ended in enumerate(text.split("\n"), 1):
        line = ended.removesuffix("\r")
        request_id, tab, place = line.partition("\t")
        if tab and not place.isdecimal():
            raise _UsageError(f"{path}:{number}: {place!r} is no row's place")
        if line:
            rows.append((request_id, int(place) if tab else None))
    return rows


def _verify(folder: Path) -> int:
    count = 0
    for fault in erasure.faults(folder):
        print(fault)
        count += 1
    print(f"{len(files.closed(folder))} files, {count} lines that are no record")
    return 1 if count else 0


def _say(line: str) -> None:
    print(f"forest-audit: {line}", file=sys.stderr)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "forest-audit",
        description="Erase records of the audit log, or check its files, while servers go on writing theirs.",
        epilog="Exit status: 0 done, 1 lines that are no record, 2 wrong usage or a file that cannot be "
        "read or written, 3 some records are in files that are still open.",
    )
    commands = parser.add_subparsers(dest="command", required=True)
    erase = commands.add_parser("erase", help="remove all records of some requests from the closed files")
    verify = commands.add_parser("verify", help="check that each line of the closed files is a record")
    for command in (erase, verify):
        command.add_argument("folder", type=Path, metavar="FOLDER", help="what audit_folder names")
    erase.add_argument(
        "--request-id",
        nargs="+",
        # Given twice, both count.
        action="extend",
        default=[],
        metavar="ID",
        help="of the requests whose records go",
    )
    erase.add_argument(
        "--request-ids",
        type=Path,
        metavar="FILE",
        help="a file of such ids, one a line; after a tab perhaps the place of the one row that goes, from 0",
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
