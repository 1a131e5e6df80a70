"""What a cell of a CSV file says: a number, a category, a flag, a date."""

import datetime
import math
from collections.abc import Callable

import numpy as np

from model_bundle.encoding import Value
from model_bundle.manifest import Feature

Reader = Callable[[str], Value]
"""From a cell's text to its value. Raises ValueError with what is wrong with it."""

_FLOAT32_MAX = float(np.finfo(np.float32).max)
_FLAGS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


def reader(feature: Feature) -> Reader:
    """Return what reads a feature's cells. A blank one is None, if it may be missing."""
    read = {"number": number, "flag": flag}.get(feature.type) or _category(feature)
    if feature.missing == "reject":
        return read
    return lambda text: read(text) if text.strip() else None


def number(text: str) -> float:
    """Return a finite number that float32 can hold."""
    try:
        value = float(text)
    except ValueError:
        _refuse_blank(text)
        raise ValueError(f"{shown(text)} is no number") from None
    # Python reads 1_000 as a number, which CSV does not have.
    if "_" in text:
        raise ValueError(f"{shown(text)} is no number")
    if -_FLOAT32_MAX <= value <= _FLOAT32_MAX:
        return value
    if not math.isfinite(value):
        raise ValueError(f"{shown(text)} is no finite number")
    raise ValueError(f"{shown(text)} is beyond float32")


def flag(text: str) -> bool:
    """Return whether it says true, yes or 1; false, no or 0."""
    try:
        return _FLAGS[text.strip().lower()]
    except KeyError:
        _refuse_blank(text)
        raise ValueError(f"{shown(text)} is no flag: true, yes or 1; false, no or 0") from None


def label(text: str) -> float:
    """Return 0 or 1 of a label: written so, or as no or yes, false or true."""
    if text.strip().lower() in _FLAGS:
        return float(flag(text))
    value = number(text)
    if value not in (0, 1):
        raise ValueError(f"{shown(text)} is no label: 0 or 1")
    return value


def date(text: str) -> float:
    """Return a date, written as 2011-01-31, as days: `datetime.date.toordinal`."""
    try:
        return float(datetime.date.fromisoformat(text.strip()).toordinal())
    except ValueError:
        _refuse_blank(text)
        raise ValueError(f"{shown(text)} is no date as 2011-01-31") from None


def _category(feature: Feature) -> Reader:
    known = ", ".join(map(repr, feature.categories))

    def read(text: str) -> str:
        if text not in feature.categories:
            _refuse_blank(text)
            raise ValueError(f"{shown(text)} is none of {known}")
        return text

    return read


def _refuse_blank(text: str) -> None:
    if not text.strip():
        raise ValueError("blank, and a value is needed") from None


def shown(text: str) -> str:
    """Return a text as messages show it."""
    quoted = repr(text)
    return quoted if len(quoted) <= 50 else quoted[:47] + "..."
