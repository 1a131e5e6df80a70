"""The command ``forest-export``."""

import argparse
import signal
import sys
from pathlib import Path

from model_bundle import created
from model_bundle.bundle import BundleError
from model_bundle.manifest import ManifestError, version_key
from model_bundle.runtime import RuntimeRefusedError
from model_export.error import ExportError
from model_export.registry import commands


def main(arguments: list[str] | None = None) -> int:
    """Run the command; return its exit status."""
    options = _parse(sys.argv[1:] if arguments is None else arguments)
    try:
        options.run(options)
    except ExportError as error:
        print(f"forest-export: {error}", file=sys.stderr)
        return error.status
    except (BundleError, ManifestError, RuntimeRefusedError) as error:
        print(f"forest-export: the bundle does not load: {error}", file=sys.stderr)
        return 1
    except ModuleNotFoundError as error:
        lock = "model_export/registry/requirements.txt" if options.track else "model_export/requirements.txt"
        print(f"forest-export: {error.name} is absent: install {lock}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("forest-export: interrupted, nothing was written", file=sys.stderr)
        return 130
    return 0


def _export(options: argparse.Namespace) -> None:
    # So a Job is ended: nothing is left behind, and process 1 of a container would not even hear of it.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    from model_export import recipe  # noqa: PLC0415

    found = recipe.find(options.model)
    # A registry that cannot be reached is said before any work.
    registry = commands.opened(options, make=True) if options.track else None
    import joblib  # noqa: PLC0415

    from model_export.export import export  # noqa: PLC0415

    # Threads on every core, and never processes.
    with joblib.parallel_config("threading", n_jobs=-1):
        exported = export(
            found, options.data, models=options.out, version=options.version, seed=options.seed, say=_say
        )
    manifest = exported.manifest
    print(exported.folder)
    print(f"digest     {exported.digest}")
    if made := created.of(exported.folder):
        print(f"created    {created.to_text(made)}")
    if manifest.interval is None:
        print(f"threshold  {manifest.threshold}")
    for name, metric in manifest.metrics.items():
        print(f"{name:9}  {metric.value:.4f}  ({metric.low:.4f} to {metric.high:.4f})", flush=True)
    if registry is not None:
        commands.log(registry, exported.folder)


def _parse(arguments: list[str]) -> argparse.Namespace:
    """Return the options of an export, or of one of the registry's commands."""
    if arguments and arguments[0] in commands.NAMES:
        return commands.parser().parse_args(arguments)
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.tracking_uri and not options.track:
        parser.error("--tracking-uri is where --track logs: give that too")
    return options


def _say(line: str) -> None:
    print(f"forest-export: {line}", file=sys.stderr, flush=True)


def _version(text: str) -> str:
    try:
        version_key(text)
    except ManifestError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    return text


def _seed(text: str) -> int:
    # NumPy's and scikit-learn's common range.
    if not text.isascii() or not text.isdigit() or int(text) >= 2**32:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 0 to {2**32 - 1}")
    return int(text)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "forest-export",
        description="Train a model, convert it to ONNX, prove the two equal, and write a bundle.",
        epilog=f"Of bundles in the registry: forest-export {{{','.join(commands.NAMES)}}} --help",
    )
    parser.set_defaults(run=_export)
    parser.add_argument(
        "model", metavar="MODEL", help="the model to make, as fraud; or a recipe's file, as path/to/recipe.py"
    )
    parser.add_argument(
        "--data",
        type=Path,
        metavar="FILE",
        help="a CSV file, plain, .gz or .xz; without it, built-in data of the same schema",
    )
    parser.add_argument(
        "--out", type=Path, default=Path("models"), metavar="DIR", help="the folder of all models (models)"
    )
    parser.add_argument(
        "--version", type=_version, default="1.0.0", metavar="X.Y.Z", help="the bundle's version (1.0.0)"
    )
    parser.add_argument(
        "--seed", type=_seed, default=0, metavar="N", help="the seed of everything random (0)"
    )
    parser.add_argument(
        "--track", action="store_true", help="log the bundle and how it was made, and register the version"
    )
    commands.add_place(parser)
    return parser


if __name__ == "__main__":
    sys.exit(main())
