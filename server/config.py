"""Every setting of the server: a flag, and a variable ``FOREST_...`` in the environment. A flag wins."""

import argparse
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any


def _setting(default: Any, text: str) -> Any:
    """Return a field of `Config`, with what ``--help`` says of it."""
    return field(default=default, metadata={"help": text})


# The C core counts milliseconds and bytes in 32 bits, and takes a port above 65535 for another one.
_TIME = (0.001, 1_000_000)
_RANGES = {
    "watch": (0, 1_000_000),
    "port": (0, 65535),
    "health_port": (0, 65535),
    "max_connection_age": _TIME,
    "max_connection_age_grace": _TIME,
    "leave_timeout": (0, 1_000_000),
    "drain_timeout": _TIME,
    "stop_grace": _TIME,
    "max_message_bytes": (1, 2**31 - 1),
    "max_batch_rows": (1, 1_000_000),
    "max_rows_in_flight": (1, 100_000_000),
}


@dataclass(frozen=True, slots=True)
class Config:
    """The server's settings. Times are seconds, sizes are bytes."""

    models: Path = _setting(  # noqa: RUF009 - a field, made once
        Path("models"), "folder of bundles, <models>/<model>/<version>"
    )
    bundle_digest: str = _setting(
        "", "digest of the one bundle to be served, sha256:...; with any other there the server is not ready"
    )
    watch: float = _setting(
        0.0, "look into the models folder so often, and serve what is new there once it has passed; 0: never"
    )
    host: str = _setting("localhost", "address to listen on; 0.0.0.0 for every IPv4 one, [::] for every one")
    port: int = _setting(50051, "port of the API")
    health_port: int = _setting(50052, "port of grpc.health.v1 alone, plaintext always, for probes")
    max_connection_age: float = _setting(
        30.0,
        "a connection is asked to end after so long (give or take a tenth), so that clients find new pods",
    )
    max_connection_age_grace: float = _setting(10.0, "calls on a connection so asked have so long to finish")
    leave_timeout: float = _setting(
        0.0,
        "after SIGTERM clients are not told so long at most, until they have gone: those that look servers "
        "up in DNS find the others when their connections age, and not before; 0: they are told at once",
    )
    drain_timeout: float = _setting(
        45.0,
        "then, told that this server is NOT_SERVING, they are served so long at most, until they have gone",
    )
    stop_grace: float = _setting(10.0, "then calls in hand have so long to finish")
    max_message_bytes: int = _setting(4 * 1024 * 1024, "largest request that is read")
    max_batch_rows: int = _setting(10_000, "most rows of one request")
    max_rows_in_flight: int = _setting(
        40_000, "most rows of such requests that wait or are scored; calls beyond are refused"
    )
    log_level: str = _setting("info", "debug, info, warning or error")

    def __post_init__(self) -> None:
        for name, (least, most) in _RANGES.items():
            if not least <= getattr(self, name) <= most:
                raise ValueError(f"{name} {getattr(self, name):g} is not from {least:g} to {most:g}")
        if not re.fullmatch(r"(sha256:[0-9a-f]{64})?", self.bundle_digest):
            raise ValueError(f"bundle_digest {self.bundle_digest!r} is not sha256: and 64 hexadecimal digits")
        if self.bundle_digest and self.watch:
            raise ValueError(
                f"watch {self.watch:g} and bundle_digest exclude each other: where one bundle is "
                "pinned, nothing may take its place"
            )
        age_out = self.max_connection_age * 1.1
        if self.drain_timeout < age_out:
            raise ValueError(
                f"drain_timeout {self.drain_timeout:g} is below 1.1 times max_connection_age "
                f"{self.max_connection_age:g}: clients that do not check health would lose calls"
            )
        if self.max_rows_in_flight < self.max_batch_rows:
            raise ValueError(
                f"max_rows_in_flight {self.max_rows_in_flight} is below max_batch_rows "
                f"{self.max_batch_rows}: the largest request would never be taken"
            )
        if self.port == self.health_port and self.port:
            raise ValueError(f"port and health_port are both {self.port}: they must differ")
        if self.log_level not in ("debug", "info", "warning", "error"):
            raise ValueError(f"log_level {self.log_level!r} is not debug, info, warning or error")


def read(arguments: Sequence[str] | None = None, environment: Mapping[str, str] = os.environ) -> Config:
    """Return the settings from command line and environment; exit with a message if they are wrong."""
    parser = argparse.ArgumentParser(
        prog="forest-serve",
        description="Serve the bundles of a folder over gRPC. Each flag is also a variable: --health-port is "
        "FOREST_HEALTH_PORT.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    for setting in fields(Config):
        variable = _variable(setting.name)
        parser.add_argument(
            "--" + setting.name.replace("_", "-"),
            type=type(setting.default),
            # A default that is text goes through `type` as well, and its errors name the flag.
            default=environment.get(variable, setting.default),
            metavar=setting.name.upper(),
            help=setting.metadata["help"],
        )
    known = {_variable(setting.name) for setting in fields(Config)}
    if unknown := sorted(name for name in environment if name.startswith("FOREST_") and name not in known):
        parser.error(f"unknown in the environment: {', '.join(unknown)}")
    try:
        return Config(**vars(parser.parse_args(arguments)))
    except ValueError as error:
        parser.error(str(error))


def _variable(name: str) -> str:
    return "FOREST_" + name.upper()
