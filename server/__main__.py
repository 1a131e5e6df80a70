"""`forest-serve`: serve the bundles of a folder over gRPC."""

import logging
import sys

from server import config


def main() -> int:
    """Run the server until it is told to stop; return the exit status."""
    settings = config.read()
    logging.basicConfig(
        level=settings.log_level.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    # Not before the settings are known to be right: it brings in all that serving needs.
    from server.server import Server  # noqa: PLC0415

    try:
        server = Server(settings)
    except OSError as error:
        print(f"forest-serve: {error}", file=sys.stderr)
        return 1
    server.run()
    return 0


if __name__ == "__main__":
    sys.exit(main())
