"""Stops the build of an image whose bundle would not be served, or which would tell what is not true."""

import os
import sys
import tomllib
from pathlib import Path

from model_bundle import bundle, created
from model_bundle.bundle import BundleError
from model_bundle.created import CreatedError


def main() -> int:
    """Check the bundle in the folder named; return the exit status."""
    folder = Path(sys.argv[1])
    try:
        digest = bundle.load(folder).digest
    except BundleError as error:
        print(f"the bundle {folder.parent.name} {folder.name} is refused: {error}", file=sys.stderr)
        return 1
    project = tomllib.loads(Path(__file__).with_name("pyproject.toml").read_text())["project"]
    status = 0
    for argument, true in (("BUNDLE_DIGEST", digest), ("SERVER_VERSION", project["version"])):
        given = os.environ.get(argument, "")
        if given != true:
            print(f"build argument {argument} is {given!r}, but must be {true}", file=sys.stderr)
            status = 1
    try:
        if given := os.environ.get("CREATED", ""):
            created.from_text(given)
    except CreatedError as error:
        print(f"build argument CREATED: {error}", file=sys.stderr)
        status = 1
    return status


if __name__ == "__main__":
    sys.exit(main())
