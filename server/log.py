"""The log: a line for each record, as text or as JSON, and its level, which may change while it is written.

Whatever a record holds, its line is one line: nothing that a caller sends begins another. In text the lines
of a traceback follow their record, indented, which no record is.
"""

import json
import logging
import re
import sys
import threading
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any

from server.followed import Followed

_log = logging.getLogger(__name__)

LEVELS = ("debug", "info", "warning", "error")

# What ends a line somewhere, moves a terminal's cursor or the direction of its text, or is no character.
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_PLAIN = re.compile(r"[\w.:/+@%-]+")
_LEVEL_BYTES = 100


def begin(form: str, level: str) -> None:
    """Write all that is logged to standard error from now on, warnings and faults of threads included.

    Parameters
    ----------
    form
        ``text``, ``json``, or ``auto``: text for a terminal, and JSON for what collects logs elsewhere.
    level
        Of `LEVELS`.
    """
    if form == "auto":
        form = "text" if sys.stderr.isatty() else "json"
    handler = logging.StreamHandler()
    handler.setFormatter(_Json() if form == "json" else _Text())
    logging.basicConfig(level=level.upper(), handlers=[handler])
    logging.captureWarnings(True)
    sys.excepthook = _uncaught
    threading.excepthook = lambda fault: _uncaught(fault.exc_type, fault.exc_value, fault.exc_traceback)


def tell_worker(number: int) -> None:
    """Let every record say which worker this process is."""
    for handler in logging.getLogger().handlers:
        if isinstance(handler.formatter, _Format):
            handler.formatter.worker = number


def about(fields: Mapping[str, object]) -> dict[str, Mapping[str, object]]:
    """Return what lets a record tell more than its message: the ``extra`` of a logger's methods."""
    return {"fields": fields}


class LevelFile(Followed[str]):
    """The level by a file with one word, of `LEVELS`. As long as it has been bad or absent, another stands.

    Parameters
    ----------
    file
        Where it is.
    level
        What stands while the file has never been good.
    """

    def __init__(self, file: Path, level: str):
        def read() -> str:
            with file.open("rb") as opened:
                word = opened.read(_LEVEL_BYTES).decode(errors="replace").strip().lower()
            if word not in LEVELS:
                raise ValueError(f"{file} says {word!r}, not one of {', '.join(LEVELS)}")
            return word

        try:
            super().__init__("log level", [file], read)
        except (OSError, ValueError) as error:
            # A server that would not start, for how much it is to tell, would be the worse fault.
            self.value = level
            _log.error("refused: the log level: %s. %s stands", error, level)
        self._apply()

    def look(self) -> None:
        """Look at the file, and change the level if it says another."""
        super().look()
        self._apply()

    def _apply(self) -> None:
        root = logging.getLogger()
        before, now = root.level, logging.getLevelNamesMapping()[self.value.upper()]
        if now != before:
            # Told by the one of the two that tells more.
            root.setLevel(min(now, before))
            _log.info("the log level is %s; it was %s", self.value, logging.getLevelName(before).lower())
            root.setLevel(now)


class _Format(logging.Formatter):
    worker = 0

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:  # noqa: N802
        """Return when it was, in UTC, by RFC 3339."""
        time = datetime.fromtimestamp(record.created, UTC)
        return time.isoformat(timespec="microseconds").replace("+00:00", "Z")

    def error(self, record: logging.LogRecord) -> str:
        """Return an exception's traceback and type, and a stack if one is asked for; else nothing."""
        exception = self.formatException(record.exc_info) if record.exc_info else ""
        return "\n".join(part for part in (exception, record.stack_info) if part)


class _Text(_Format):
    """As a person reads it."""

    def format(self, record: logging.LogRecord) -> str:
        """Return a record's line, and those of its traceback."""
        worker = f"worker {self.worker}: " if self.worker else ""
        line = (
            f"{self.formatTime(record)} {record.levelname} {record.name}: {worker}{_clean(_message(record))}"
        )
        for name, value in _fields(record).items():
            text = value if isinstance(value, str) and _PLAIN.fullmatch(value) else json.dumps(value)
            line += f" {name}={text}"
        return "\n  ".join([line, *(_clean(each) for each in self.error(record).splitlines())])


class _Json(_Format):
    """As programs read it: one object a line, in ASCII."""

    def format(self, record: logging.LogRecord) -> str:
        """Return a record's line."""
        told: dict[str, object] = {
            "time": self.formatTime(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": _whole(_message(record)),
        }
        if self.worker:
            told["worker"] = self.worker
        if error := self.error(record):
            told["error"] = _whole(error)
        return json.dumps(told | {name: value for name, value in _fields(record).items() if name not in told})


def _message(record: logging.LogRecord) -> str:
    try:
        return record.getMessage()
    except Exception:
        # A record whose parts do not fit is a fault of who wrote it, and still says something.
        return f"{record.msg} {record.args!r}"


def _fields(record: logging.LogRecord) -> dict[str, Any]:
    fields: Mapping[str, object] = getattr(record, "fields", {})
    return {name: _whole(value) if isinstance(value, str) else value for name, value in fields.items()}


def _clean(text: str) -> str:
    """Return a text with every character escaped that could be taken for more than a character."""
    return _CONTROL.sub(lambda found: ascii(found[0])[1:-1], text)


def _whole(text: str) -> str:
    """Return a text without halves of characters, which names of files that are no UTF-8 have: escaped."""
    return text.encode(errors="backslashreplace").decode()


def _uncaught(
    kind: type[BaseException], fault: BaseException | None, traceback: TracebackType | None
) -> None:
    if fault is not None and not issubclass(kind, (KeyboardInterrupt, SystemExit)):
        logging.getLogger(__name__).critical("an uncaught fault", exc_info=(kind, fault, traceback))
