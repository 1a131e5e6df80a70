"""When a bundle was made.

No file of a bundle tells, so that the same content has the same digest whenever it is made. It is the time
at which the manifest was written. Files in an image have no time: there a file beside the bundle's folder
tells it, ``<models>/<model>/<version>.created``.
"""

import logging
import re
import time
from datetime import UTC, datetime
from pathlib import Path

from model_bundle.bundle import MANIFEST

_log = logging.getLogger(__name__)

# The years before are how images and archives say that a file has no time.
_EARLIEST = int(datetime(2000, 1, 1, tzinfo=UTC).timestamp())
# Seconds by which clocks may differ.
_LEEWAY = 86_400
_TEXT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", re.ASCII)
_MOST_BYTES = 64


class CreatedError(ValueError):
    """A time at which no bundle can have been made. The message names it, and the fault."""


def of(folder: Path) -> int | None:
    """Return when a bundle was made, in seconds since the epoch; None if nothing tells.

    What cannot be true is told in a warning, and ignored.
    """
    beside = folder.with_name(f"{folder.name}.created")
    place = beside
    try:
        try:
            with beside.open("rb") as file:
                return from_text(file.read(_MOST_BYTES).decode(errors="replace").strip())
        except FileNotFoundError:
            place = folder / MANIFEST
            seconds = int(place.stat().st_mtime)
            return _possible(seconds, f"its time, {seconds} s after 1970,") if seconds >= _EARLIEST else None
    except FileNotFoundError:
        return None
    except (OSError, CreatedError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        _log.warning(
            "when %s %s was made is not known: %s: %s", folder.parent.name, folder.name, place, reason
        )
        return None


def from_text(text: str) -> int:
    """Return the seconds since the epoch of a time as `to_text` writes it.

    Raises
    ------
    CreatedError
        If it is no such time, before 2000, or to come.
    """
    try:
        if not _TEXT.fullmatch(text):
            raise ValueError
        seconds = int(datetime.fromisoformat(text).timestamp())
    except ValueError:
        raise CreatedError(f"{text!r} is no time as 2026-11-26T05:05:49Z is one") from None
    return _possible(seconds, repr(text))


def to_text(seconds: int) -> str:
    """Return a time by RFC 3339, in UTC."""
    return datetime.fromtimestamp(seconds, UTC).isoformat().replace("+00:00", "Z")


def _possible(seconds: int, said: str) -> int:
    if seconds < _EARLIEST:
        raise CreatedError(f"{said} is before 2000")
    if seconds > time.time() + _LEEWAY:
        raise CreatedError(f"{said} is yet to come")
    return seconds
