"""The trace that a call belongs to, by its metadata `traceparent`: https://www.w3.org/TR/trace-context/."""

import logging
import os
import re
from typing import TYPE_CHECKING, NamedTuple

from server.call import Metadata

if TYPE_CHECKING:
    from server.tracing import Tracing

_log = logging.getLogger(__name__)

_TRACEPARENT = re.compile(r"(?!ff)([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_SAMPLED = 1


class Span(NamedTuple):
    """A span, by its trace's and its own number in hexadecimal digits, and whether it is recorded."""

    trace_id: str
    span_id: str
    sampled: bool


def parent(metadata: Metadata) -> Span | None:
    """Return its caller's span that a call belongs to; None if the caller says none, or nothing good."""
    found = [value for name, value in metadata if name == "traceparent"]
    if len(found) != 1 or not isinstance(found[0], str):
        return None
    match = _TRACEPARENT.fullmatch(found[0])
    # Later versions may have more at the end; the first has not.
    if not match or (match[1] == "00" and match[5]) or not int(match[2], 16) or not int(match[3], 16):
        return None
    return Span(match[2], match[3], bool(int(match[4], 16) & _SAMPLED))


def begin(endpoint: str, ratio: float) -> "Tracing":
    """Return what makes spans of calls, and sends them.

    It has threads: where there are workers, each has one of its own, made after the fork.

    Parameters
    ----------
    endpoint
        Where the collector is, as ``http://collector:4317``; with ``https`` by TLS.
    ratio
        Share of calls without a trace of their caller's that are traced.

    Raises
    ------
    ValueError
        If OpenTelemetry is not installed.
    """
    # Its libraries would take settings from there, while they are loaded and later.
    ignored = sorted(name for name in os.environ if name.startswith("OTEL_"))
    if ignored:
        _log.warning("ignored: %s: traces have settings of the server's own", ", ".join(ignored))
    for name in ignored:
        del os.environ[name]
    try:
        from server.tracing import Tracing  # noqa: PLC0415 - its libraries are an extra
    except ImportError as error:
        raise ValueError(
            f"traces_endpoint {endpoint}: {error}: install the extra `traces`, as forest-serving[traces]"
        ) from error
    return Tracing(endpoint, ratio)
