"""What `make serve` does: start a server, score a row with each model, say how to score the next.

The server is left in the foreground until Ctrl-C.
"""

import json
import os
import shlex
import signal
import socket
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import grpc
from forest_client import open_channel

from model_bundle import bundle, golden
from model_bundle.manifest import version_key

MODELS = Path("models")
Record = dict[str, float | str | bool | None]
PORT, HEALTH_PORT = 50051, 50052


def main() -> int:
    """Run the server, with one call to it. Returns its exit status."""
    for port in (PORT, HEALTH_PORT):
        if taken(port):
            print(f"Port {port} is taken: stop what is listening there, then try again.", file=sys.stderr)
            return 1
    flags = f"--models {MODELS} --port {PORT} --health-port {HEALTH_PORT}".split()
    with subprocess.Popen([sys.executable, "-m", "server", *flags]) as server:  # noqa: S603 - words of our own
        # A terminal's Ctrl-C reaches the server as well, and the server knows what to do.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, lambda *_: server.terminate())
        if serving(server):
            show({model.name: sample(model) for model in sorted(MODELS.iterdir()) if versions(model)})
        return server.wait()


def taken(port: int) -> bool:
    """Return whether something listens on a port of this machine."""
    try:
        with socket.create_connection(("localhost", port), timeout=1):
            return True
    except OSError:
        return False


def serving(server: "subprocess.Popen[bytes]") -> bool:
    """Wait until the server's health is SERVING. Return False if it ends before."""
    with open_channel(f"localhost:{PORT}") as channel:
        # The channel checks health: it is not ready before the server says so.
        ready = grpc.channel_ready_future(channel)
        while server.poll() is None:
            with suppress(grpc.FutureTimeoutError):
                ready.result(timeout=0.1)
                return True
    return False


def versions(model: Path) -> list[Path]:
    """Return the bundles of a model's folder."""
    return [manifest.parent for manifest in model.glob(f"[!.]*/{bundle.MANIFEST}")]


def sample(model: Path) -> Record:
    """Return the first golden row of a model's highest version, by feature name."""
    folder = max(versions(model), key=lambda version: version_key(version.name))
    return dict(golden.from_bytes((folder / bundle.GOLDEN).read_bytes())[0].record)


def show(records: dict[str, Record]) -> None:
    """Score each model's record with forest-predict, and print the commands that did."""
    forest_predict = os.path.relpath(Path(sys.executable).with_name("forest-predict"))
    commands = [[forest_predict, model, "--json", json.dumps(record)] for model, record in records.items()]
    for command in commands:
        print(f"\nThe first golden row of {command[1]}, scored over gRPC:", flush=True)
        subprocess.run(command, check=True)  # noqa: S603 - words of our own
    print("\nScore them from another terminal:\n")
    print("\n\n".join(map(shlex.join, commands)))
    print("\nCtrl-C stops the server.", flush=True)


if __name__ == "__main__":
    sys.exit(main())
