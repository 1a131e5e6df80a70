"""The command ``forest-drift``."""

import argparse
import os
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from model_bundle import bundle
from model_bundle.bundle import BundleError
from model_bundle.manifest import ManifestError, version_key
from model_bundle.reference import HistogramError
from model_bundle.runtime import RuntimeRefusedError
from model_export.error import ExportError

_FORMATS = {"text": ".txt", "json": ".json", "html": ".html"}
_DATA = (".csv", ".csv.gz", ".csv.xz")
# A century and more: no log is older.
_MOST_HOURS = 1_000_000
_UNUSABLE = 2
# What is worse stands first.
_STATUSES = (_UNUSABLE, 1, 3, 0)


class _UsageError(Exception):
    """What was asked for cannot be done. The message says why."""


def main(arguments: list[str] | None = None) -> int:
    """Run the command; return its exit status: 0 no drift, 1 drift, 2 unusable, 3 too few rows to tell."""
    options = _parser().parse_args(arguments)
    try:
        return _compare(options)
    except ModuleNotFoundError as error:
        _say(f"{error.name} is absent: install model_export/requirements.txt")
    except (BundleError, HistogramError, RuntimeRefusedError) as error:
        _say(f"the bundle does not load: {error}")
    except (ExportError, _UsageError) as error:
        _say(str(error))
    except OSError as error:
        _say(f"{error.filename or 'output'}: {error.strerror or error}")
    except KeyboardInterrupt:
        _say("interrupted")
        return 130
    return _UNUSABLE


def _compare(options: argparse.Namespace) -> int:
    # So a Job is ended: process 1 of a container would not even hear of it.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    from model_bundle import reference  # noqa: PLC0415
    from model_export.drift import report, rows  # noqa: PLC0415

    formats = list(dict.fromkeys(options.format or ["text"]))
    writers: dict[str, Callable[[Any], str]] = {"text": report.to_text, "json": report.to_json}
    if "html" in formats:
        from model_export.drift import page  # noqa: PLC0415

        writers["html"] = page.render
    many = _many(options, formats)
    folder = _folder(options.bundle, options.models)
    manifest, digest = bundle.read_manifest(folder)
    if strangers := sorted(set(options.ignore) - {feature.name for feature in manifest.features}):
        raise _UsageError(f"--ignore {strangers[0]}: {manifest.model} has no such feature")
    loaded = bundle.check(folder, manifest, digest)
    before = reference.read(folder, manifest)

    def compare(path: Path) -> report.Report:
        read = rows.read_audit(path, manifest, options.hours) if options.audit else rows.read(path, manifest)
        return report.make(loaded, before, read, options.ignore)

    if not many:
        made = compare(options.file)
        text = writers[formats[0]](made)
        if options.output is None:
            sys.stdout.write(text)
        else:
            _write(options.output, text)
            _say(f"{made.source}: {made.verdict}")
        return made.status
    statuses = {0}
    options.output.mkdir(exist_ok=True)
    for path, report_name in _sources(options, formats):
        try:
            made = compare(path)
        except ExportError as error:
            # The others are not held up by it, and it is tried again the next time.
            _say(str(error))
            statuses.add(_UNUSABLE)
            continue
        for name in formats:
            _write(_place(options.output, report_name, name), writers[name](made))
        _say(f"{made.source}: {made.verdict}")
        statuses.add(made.status)
    return next(status for status in _STATUSES if status in statuses)


def _many(options: argparse.Namespace, formats: list[str]) -> bool:
    """Return whether reports go to a folder, by names of their own. Raises `_UsageError`."""
    several = len(formats) > 1
    if options.hours is not None and not 0 < options.hours <= _MOST_HOURS:
        raise _UsageError(f"--hours {options.hours:g} is not above 0 and at most {_MOST_HOURS:,}")
    if options.audit:
        many = options.output is not None and (several or options.output.is_dir())
    else:
        many = options.file.is_dir()
        if options.hours is not None:
            raise _UsageError("--hours is of an audit log, which --audit says FILE is")
    if options.output is None and options.file.is_dir() and not options.audit:
        raise _UsageError(f"{options.file} is a folder: name one for its reports by --output")
    if several and not many:
        raise _UsageError("one file's report has one --format: a folder's reports may have several")
    return many


def _sources(options: argparse.Namespace, formats: list[str]) -> Iterator[tuple[Path, str]]:
    """Return what is compared, each with the name of its reports. An audit log's tells when it was made."""
    if options.audit:
        yield options.file, f"audit-{datetime.now(UTC):%Y%m%dT%H%M%SZ}"
    else:
        for path in _waiting(options.file, options.output, formats):
            yield path, path.name


def _folder(name: str, models: Path) -> Path:
    """Return a bundle's folder: the one that is named, or the highest version of a model."""
    given = Path(name)
    if (given / bundle.MANIFEST).is_file():
        return given.resolve()
    versions = [path.parent for path in (models / name).glob(f"[0-9]*/{bundle.MANIFEST}")] if name else []
    known = [path for path in versions if _is_version(path.name)]
    if not known:
        raise _UsageError(
            f"{name} is no bundle, and {models} has no model of that name: forest-export makes one"
        )
    return max(known, key=lambda path: version_key(path.name)).resolve()


def _is_version(name: str) -> bool:
    try:
        version_key(name)
    except ManifestError:
        return False
    return True


def _waiting(folder: Path, output: Path, formats: list[str]) -> Iterator[Path]:
    """Return the files of a folder that lack a report, in the order of their names."""
    for path in sorted(folder.iterdir()):
        if path.name.startswith(".") or not path.name.endswith(_DATA) or not path.is_file():
            continue
        if not all(_place(output, path.name, name).exists() for name in formats):
            yield path


def _place(output: Path, name: str, form: str) -> Path:
    return output / (name + _FORMATS[form])


def _write(path: Path, text: str) -> None:
    """Write a report: all of it or nothing."""
    descriptor, aside = tempfile.mkstemp(prefix=".", dir=path.parent)
    try:
        with open(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
        # Others read it too, as far as the process lets them.
        mask = os.umask(0)
        os.umask(mask)
        Path(aside).chmod(0o666 & ~mask)
        Path(aside).replace(path)
    except BaseException:
        Path(aside).unlink(missing_ok=True)
        raise


def _say(line: str) -> None:
    print(f"forest-drift: {line}", file=sys.stderr, flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "forest-drift",
        description="Compare rows, and the model's scores of them, with what the model was trained on.",
        epilog="Exit status: 0 no drift, 1 drift, 2 wrong usage or input, 3 too few rows to tell.",
    )
    parser.add_argument(
        "bundle",
        metavar="MODEL_OR_BUNDLE",
        help="a model's name, for its highest version; or a bundle's folder, as models/fraud/1.0.0",
    )
    parser.add_argument(
        "file",
        type=Path,
        metavar="FILE",
        help="a CSV file with a header, plain, .gz or .xz; or a folder of them: those without a report",
    )
    parser.add_argument(
        "--audit",
        action="store_true",
        help="FILE is a server's audit log: one of its files, or the folder of them, for one report",
    )
    parser.add_argument(
        "--hours",
        type=float,
        metavar="N",
        help="of an audit log: what was recorded in the last so many hours",
    )
    parser.add_argument(
        "--format",
        action="append",
        choices=list(_FORMATS),
        help="of the report (text); of a folder's reports there may be several",
    )
    parser.add_argument(
        "--output",
        type=Path,
        metavar="PLACE",
        help="the report's file (standard output); of a folder, the folder of its reports",
    )
    parser.add_argument(
        "--ignore",
        action="append",
        default=[],
        metavar="FEATURE",
        help="a feature whose drift is told and decides nothing, as the time of day; may be repeated",
    )
    parser.add_argument(
        "--models", type=Path, default=Path("models"), metavar="DIR", help="the folder of all models (models)"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
