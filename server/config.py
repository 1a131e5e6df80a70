"""Every setting of the server, and where it was given.

A setting is a flag, a variable ``FOREST_...`` in the environment, and a key of the file that ``--config``
names. A flag wins over a variable, a variable over the file, and the file over the default.
"""

# Each setting is a field that is made once.
# ruff: noqa: RUF009

import argparse
import json
import os
import re
import sys
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import Field, dataclass, field, fields
from itertools import combinations
from pathlib import Path
from typing import Any

_DEFAULT = "default"
_FILE_FLAG = "--config"
_FILE_VARIABLE = "FOREST_CONFIG"


@dataclass(frozen=True, slots=True)
class _Kind:
    """What a setting's values are: what others are said to be, how one is read, and its types in a file."""

    other: str
    read: Callable[[str], Any]
    in_file: tuple[type, ...]


_SWITCH = {"on": True, "true": True, "off": False, "false": False}
_KINDS: dict[type, _Kind] = {
    int: _Kind("no whole number", int, (int,)),
    float: _Kind("no number", float, (int, float)),
    str: _Kind("no text", str, (str,)),
    type(Path()): _Kind("no path", Path, (str,)),
    bool: _Kind("neither on nor off", lambda text: _SWITCH[text.lower()], (bool, str)),
}
_WORKERS = _Kind(
    "neither auto nor a whole number", lambda text: text if text == "auto" else int(text), (int, str)
)
_FILE = _Kind("no path", lambda text: Path(text) if text else None, (str,))


def _setting(default: Any, text: str, kind: _Kind | None = None) -> Any:
    """Return a field of `Config`: its default, what ``--help`` says of it, and the kind of its values."""
    return field(default=default, metadata={"help": text, "kind": kind or _KINDS[type(default)]})


# The C core counts milliseconds and bytes in 32 bits, and takes a port above 65535 for another one.
_TIME = (0.001, 1_000_000)
_RANGES = {
    "watch": (0, 1_000_000),
    "port": (0, 65535),
    "health_port": (0, 65535),
    "max_connection_age": _TIME,
    "max_connection_age_grace": _TIME,
    "max_connection_idle": (0, 1_000_000),
    "keepalive_time": (0, 1_000_000),
    "keepalive_timeout": _TIME,
    "min_ping_interval": (0, 1_000_000),
    "max_ping_strikes": (0, 1_000_000),
    "max_concurrent_streams": (1, 2**31 - 1),
    "leave_timeout": (0, 1_000_000),
    "drain_timeout": _TIME,
    "stop_grace": _TIME,
    "metrics_port": (0, 65535),
    "drift_window": (60, 1_000_000),
    "max_message_bytes": (1, 2**31 - 1),
    "max_batch_rows": (1, 1_000_000),
    "max_rows_in_flight": (1, 100_000_000),
    "audit_rotate_bytes": (1, 2**40),
    "audit_rotate_seconds": (1, 10_000_000),
    "audit_keep_days": (0, 100_000),
    "traces_ratio": (0, 1),
}
# The setting with which each topic begins.
_TOPICS = {
    "models": "models",
    "host": "listening",
    "tls_certificate": "TLS",
    "access_policy": "who may call",
    "max_connection_age": "connections",
    "leave_timeout": "the end",
    "metrics_port": "metrics",
    "log_format": "log",
    "audit": "audit log",
    "traces_endpoint": "traces",
}


class SettingError(ValueError):
    """Settings that cannot be.

    Parameters
    ----------
    message
        What is wrong with them.
    names
        Which they are.
    """

    def __init__(self, message: str, *names: str):
        super().__init__(message)
        self.names = names


@dataclass(frozen=True, slots=True)
class Config:
    """The server's settings. Times are seconds, sizes are bytes."""

    models: Path = _setting(Path("models"), "folder of bundles, <models>/<model>/<version>")
    bundle_digest: str = _setting(
        "", "digest of the one bundle to be served, sha256:...; with any other there the server is not ready"
    )
    watch: float = _setting(
        0.0, "look into the models folder so often, and serve what is new there once it has passed; 0: never"
    )
    host: str = _setting("localhost", "address to listen on; 0.0.0.0 for every IPv4 one, [::] for every one")
    port: int = _setting(50051, "port of the API")
    health_port: int = _setting(50052, "port of grpc.health.v1 alone, plaintext always, for probes")
    workers: int | str = _setting(
        1,
        "processes that share the ports; auto: one for each whole processor of the container's limit",
        _WORKERS,
    )
    reflection: str = _setting(
        "on",
        "server reflection on the API's port: on, off, or authorised: for callers of the policy alone",
    )
    tls_certificate: Path | None = _setting(
        None, "PEM file of the server's certificate and those up to its root; empty: no TLS", _FILE
    )
    tls_key: Path | None = _setting(None, "PEM file of the certificate's key, not encrypted", _FILE)
    tls_client_ca: Path | None = _setting(
        None, "PEM file of who must have signed a client's certificate; empty: clients need none", _FILE
    )
    access_policy: Path | None = _setting(
        None, "TOML file of callers and the models that each may call; empty: everybody may call all", _FILE
    )
    plaintext_tokens: bool = _setting(
        False, "on: the policy may have tokens without TLS, where everybody on the way can read them"
    )
    max_connection_age: float = _setting(
        30.0,
        "a connection is asked to end after so long (give or take a tenth), so that clients find new pods",
    )
    max_connection_age_grace: float = _setting(10.0, "calls on a connection so asked have so long to finish")
    max_connection_idle: float = _setting(
        0.0, "a connection without a call for so long is asked to end; 0: however long"
    )
    keepalive_time: float = _setting(
        0.0, "a client that has sent nothing for so long is asked whether it is there; 0: never"
    )
    keepalive_timeout: float = _setting(20.0, "it has so long to answer, or its connection ends")
    min_ping_interval: float = _setting(
        10.0, "a client that sends nothing else may ask so often whether the server is there"
    )
    max_ping_strikes: int = _setting(
        2, "after so many pings that came too soon its connection ends; 0: never"
    )
    max_concurrent_streams: int = _setting(
        1000, "calls at once on one connection; a client keeps back those beyond"
    )
    max_message_bytes: int = _setting(4 * 1024 * 1024, "largest request that is read")
    max_batch_rows: int = _setting(10_000, "most rows of one request")
    max_rows_in_flight: int = _setting(
        40_000, "most rows of such requests that wait or are scored; calls beyond are refused"
    )
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
    metrics_port: int = _setting(9464, "port of metrics for Prometheus, plaintext always; 0: none")
    drift_window: float = _setting(
        3600.0, "what was scored in so long is compared with the training data, to tell of drift"
    )
    log_format: str = _setting(
        "auto", "text, json, or auto: text where standard error is a terminal, and json elsewhere"
    )
    log_level: str = _setting("info", "debug, info, warning or error")
    log_level_file: Path | None = _setting(
        None, "file with one of these words, followed while the server runs; empty: log_level stands", _FILE
    )
    audit: str = _setting(
        "off",
        "records of all decisions: off; best-effort: a moment later, and what cannot be written is counted; "
        "strict: no answer before its record is on the disk",
    )
    audit_folder: Path | None = _setting(
        None, "folder of the files of records, made if it is not there", _FILE
    )
    audit_rotate_bytes: int = _setting(64 * 1024 * 1024, "a file that would grow beyond is closed")
    audit_rotate_seconds: float = _setting(
        3600.0, "so is one that is as old; only closed files are to be read"
    )
    audit_keep_days: float = _setting(0.0, "closed files older than this are deleted; 0: none is")
    audit_inputs: str = _setting(
        "values", "of each row: values, by the features' names; hash: a keyed hash of those; none: nothing"
    )
    audit_redact: str = _setting(
        "", "features that no record has, between commas, each FEATURE or MODEL.FEATURE; empty: none"
    )
    audit_key: Path | None = _setting(None, "file of the hash's key, 16 bytes or more", _FILE)
    traces_endpoint: str = _setting(
        "",
        "where spans go, by OTLP over gRPC, as http://collector:4317; 4317 is the port if none is said; "
        "empty: nowhere",
    )
    traces_ratio: float = _setting(
        0.01, "share of calls without a trace of their caller's that are traced: from 0 to 1"
    )

    def __post_init__(self) -> None:
        if self.workers != "auto" and not 1 <= int(self.workers) <= 256:
            raise SettingError(f"workers {self.workers} is not auto, nor from 1 to 256", "workers")
        for name, (least, most) in _RANGES.items():
            if not least <= getattr(self, name) <= most:
                raise SettingError(f"{name} {getattr(self, name):g} is not from {least:g} to {most:g}", name)
        if not re.fullmatch(r"(sha256:[0-9a-f]{64})?", self.bundle_digest):
            raise SettingError(
                f"bundle_digest {self.bundle_digest!r} is not sha256: and 64 hexadecimal digits",
                "bundle_digest",
            )
        if self.bundle_digest and self.watch:
            raise SettingError(
                f"watch {self.watch:g} and bundle_digest exclude each other: where one bundle is "
                "pinned, nothing may take its place",
                *("watch", "bundle_digest"),
            )
        age_out = self.max_connection_age * 1.1
        if self.drain_timeout < age_out:
            raise SettingError(
                f"drain_timeout {self.drain_timeout:g} is below 1.1 times max_connection_age "
                f"{self.max_connection_age:g}: clients that do not check health would lose calls",
                *("drain_timeout", "max_connection_age"),
            )
        if self.max_rows_in_flight < self.max_batch_rows:
            raise SettingError(
                f"max_rows_in_flight {self.max_rows_in_flight} is below max_batch_rows "
                f"{self.max_batch_rows}: the largest request would never be taken",
                *("max_rows_in_flight", "max_batch_rows"),
            )
        for one, other in combinations(("port", "health_port", "metrics_port"), 2):
            number = getattr(self, one)
            if number and number == getattr(self, other):
                raise SettingError(f"{one} and {other} are both {number}: they must differ", one, other)
        self._check_log()
        self._check_callers()
        self._check_audit()

    def _check_log(self) -> None:
        """Check the settings of the log and of traces."""
        if self.log_format not in ("auto", "text", "json"):
            raise SettingError(f"log_format {self.log_format!r} is not text, json or auto", "log_format")
        if self.log_level not in ("debug", "info", "warning", "error"):
            raise SettingError(
                f"log_level {self.log_level!r} is not debug, info, warning or error", "log_level"
            )
        host = r"(?:\[[^][\s/@?#]+\]|[^][\s/@?#:]+)"
        place = re.fullmatch(rf"https?://{host}(?::(\d{{1,5}}))?", self.traces_endpoint)
        if self.traces_endpoint and (not place or not 1 <= int(place[1] or 1) <= 65535):
            raise SettingError(
                f"traces_endpoint {self.traces_endpoint!r} is not http://HOST:PORT or https://HOST:PORT",
                "traces_endpoint",
            )

    def _check_callers(self) -> None:
        """Check the settings of TLS and of who may call."""
        if self.reflection not in ("on", "off", "authorised"):
            raise SettingError(f"reflection {self.reflection!r} is not on, off or authorised", "reflection")
        for name, needed in (
            ("tls_certificate", "tls_key"),
            ("tls_key", "tls_certificate"),
            ("tls_client_ca", "tls_certificate"),
            ("plaintext_tokens", "access_policy"),
        ):
            if getattr(self, name) and not getattr(self, needed):
                raise SettingError(
                    f"{name} does nothing without {needed}: set both, or neither", name, needed
                )
        if self.reflection == "authorised" and not self.access_policy:
            raise SettingError(
                "reflection authorised needs an access_policy, which says who that is",
                *("reflection", "access_policy"),
            )

    def _check_audit(self) -> None:
        """Check the settings of the audit log."""
        for name, known in (
            ("audit", ("off", "best-effort", "strict")),
            ("audit_inputs", ("values", "hash", "none")),
        ):
            if getattr(self, name) not in known:
                raise SettingError(
                    f"{name} {getattr(self, name)!r} is not {known[0]}, {known[1]} or {known[2]}", name
                )
        if self.audit == "off":
            for name in ("audit_folder", "audit_redact", "audit_key"):
                if getattr(self, name):
                    raise SettingError(f"{name} does nothing while audit is off", name, "audit")
            return
        if not self.audit_folder:
            raise SettingError(f"audit {self.audit} needs an audit_folder", "audit", "audit_folder")
        if self.audit_inputs == "hash" and not self.audit_key:
            raise SettingError(
                "audit_inputs hash needs an audit_key: without a key a hash of a few known values is easily "
                "guessed",
                *("audit_inputs", "audit_key"),
            )
        if self.audit_key and self.audit_inputs != "hash":
            raise SettingError(
                f"audit_key does nothing while audit_inputs is {self.audit_inputs}",
                *("audit_key", "audit_inputs"),
            )
        if self.audit_redact and self.audit_inputs == "none":
            raise SettingError(
                "audit_redact does nothing while audit_inputs is none", "audit_redact", "audit_inputs"
            )


def read(arguments: Sequence[str] | None = None, environment: Mapping[str, str] = os.environ) -> Config:
    """Return the settings from command line, environment and file.

    Exits with a message that names the settings and where they were given if they are wrong, and with the
    settings printed if ``--print-config`` asks for that.
    """
    parser = _parser()
    flags = vars(parser.parse_args(arguments))
    wants_print = flags.pop("print_config")
    known = {_variable(setting.name) for setting in fields(Config)} | {_FILE_VARIABLE}
    if unknown := sorted(name for name in environment if name.startswith("FOREST_") and name not in known):
        parser.error(f"unknown in the environment: {', '.join(unknown)}")
    flag_file = flags.pop("config")
    file = environment.get(_FILE_VARIABLE, "") if flag_file is None else flag_file
    try:
        table = _table(file, _FILE_VARIABLE if flag_file is None else _FILE_FLAG) if file else {}
        values, origins = {}, {}
        for setting in fields(Config):
            found = _find(setting, flags, environment, file, table)
            if found:
                origins[setting.name], values[setting.name] = found
        config = Config(**values)
    except SettingError as error:
        given = "; ".join(f"{name}: {origins.get(name, _DEFAULT)}" for name in error.names)
        parser.error(f"{error} ({given})" if given else str(error))
    if wants_print:
        sys.stdout.write(_printed(config, origins))
        sys.exit(0)
    return config


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="forest-serve",
        description="Serve the bundles of a folder over gRPC. Each setting is a flag, a variable in the "
        "environment, --health-port being FOREST_HEALTH_PORT, and a key of a file, health_port. The first of "
        "these that gives a setting wins.",
        allow_abbrev=False,
    )
    parser.add_argument(_FILE_FLAG, metavar="FILE", help=f"TOML file of settings; also {_FILE_VARIABLE}")
    parser.add_argument(
        "--print-config",
        action="store_true",
        help="print every setting and where it was given, as a file of settings, and exit",
    )
    group: Any = parser
    for setting in fields(Config):
        if setting.name in _TOPICS:
            group = parser.add_argument_group(_TOPICS[setting.name])
        group.add_argument(
            _flag(setting.name),
            metavar=setting.name.upper(),
            help=f"{setting.metadata['help']} (default: {_text(setting.default)})".replace("%", "%%"),
        )
    return parser


def _table(file: str, origin: str) -> dict[str, Any]:
    """Return what a file of settings holds."""
    try:
        table = tomllib.loads(Path(file).read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingError(f"{origin}: cannot read {file}: {error.strerror}") from error
    except ValueError as error:
        raise SettingError(f"{origin}: {file} is no TOML: {error}") from error
    if unknown := sorted(table.keys() - {setting.name for setting in fields(Config)}):
        raise SettingError(f"unknown in {file}: {', '.join(unknown)}")
    return table


def _find(
    setting: Field[Any],
    flags: Mapping[str, str | None],
    environment: Mapping[str, str],
    file: str,
    table: Any,
) -> tuple[str, Any] | None:
    """Return where a setting was given, and its value; None if it was not."""
    name, kind = setting.name, setting.metadata["kind"]
    origin = file
    given: Any = flags[name]
    if given is not None:
        origin = _flag(name)
    elif _variable(name) in environment:
        origin, given = _variable(name), environment[_variable(name)]
    elif name in table:
        given = table[name]
        if type(given) not in kind.in_file:
            raise SettingError(f"{file}: {name}: {given!r} is {kind.other}")
    else:
        return None
    try:
        return origin, kind.read(str(given))
    except (ValueError, KeyError):
        where = f"{file}: {name}" if origin == file else origin
        raise SettingError(f"{where}: {given!r} is {kind.other}") from None


def _printed(config: Config, origins: Mapping[str, str]) -> str:
    """Return the settings as a file of them. Each tells where it was given."""
    lines: list[str] = []
    for setting in fields(Config):
        if setting.name in _TOPICS:
            lines.append(("\n" if lines else "") + f"# {_TOPICS[setting.name]}")
        value = getattr(config, setting.name)
        text = json.dumps(value if type(value) in (int, float, bool) else _text(value), ensure_ascii=False)
        lines.append(f"{setting.name} = {text}  # {origins.get(setting.name, _DEFAULT)}")
    return "\n".join(lines) + "\n"


def _text(value: Any) -> str:
    """Return a value as a flag or a variable would give it."""
    if type(value) is bool:
        return "on" if value else "off"
    return "" if value is None else str(value)


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def _variable(name: str) -> str:
    return "FOREST_" + name.upper()
