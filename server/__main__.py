"""`forest-serve`: serve the bundles of a folder over gRPC."""

import logging
import sys

from server import config, log, processors
from server.workers import Supervisor


def main() -> int:
    """Run the server until it is told to stop; return the exit status."""
    settings = config.read()
    log.begin(settings.log_format, settings.log_level)
    workers = settings.workers
    if not isinstance(workers, int):
        workers, reason = processors.workers()
        logging.getLogger(__name__).info("workers: %d, by %s", workers, reason)
    try:
        if workers > 1:
            return Supervisor(settings, workers).run()
        # Where there are workers, each brings in all that serving needs, and this process does not.
        from server.server import Server  # noqa: PLC0415

        server = Server(settings)
    except (OSError, ValueError) as error:
        print(f"forest-serve: {error}", file=sys.stderr)
        return 1
    try:
        server.run()
    except config.SettingError as error:
        # What only the models can tell to be wrong.
        print(f"forest-serve: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
