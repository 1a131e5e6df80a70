"""`forest-serve`: serve the bundles of a folder over gRPC."""

import logging
import sys

from server import config
from server.server import Server


def main() -> int:
    """Run the server until it is told to stop; return the exit status."""
    settings = config.read()
    logging.basicConfig(
        level=settings.log_level.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    try:
        server = Server(settings)
    except OSError as error:
        print(f"forest-serve: {error}", file=sys.stderr)
        return 1
    server.run()
    return 0


if __name__ == "__main__":
    sys.exit(main())
