"""The caller's log: a line when it begins, a line for each call when it is over, a line at the end.

    begin 1760000000.000000 {"target": "dns:///...", "rate": 50.0, "deadline": 1.0, "retries": false}
    1 1760000000.000112 0.001934 OK 1.0.0 sha256:e6fc...
    2 1760000000.020103 0.000713 UNAVAILABLE "failed to connect to all addresses; ..."
    end 1760000000.039201 2

A call's columns are its number, the time at which it was sent, the seconds that it took, its status, and the
version and digest that answered, or why it failed. Numbers begin with 1 and leave none out; the last line
says how many were sent. So whoever has the line at the end can prove that no line is lost. Calls stand in the
order in which they were over.
"""

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass


class LogError(Exception):
    """A log that no caller has written. The message names the line."""


@dataclass(frozen=True, slots=True)
class Begin:
    """When the caller began, in Unix seconds, and how it was told to call."""

    time: float
    target: str
    rate: float
    deadline: float
    retries: bool

    def __str__(self) -> str:
        settings = asdict(self)
        return f"begin {settings.pop('time'):.6f} {json.dumps(settings)}"


@dataclass(frozen=True, slots=True)
class Call:
    """A call that is over.

    Attributes
    ----------
    number : int
        Its place among all that were sent, from 1.
    sent : float
        When, in Unix seconds.
    seconds : float
        How long it took.
    status : str
        OK, the name of gRPC's status code, or WRONG_ANSWER if the answer was not this request's.
    version, digest : str
        What answered, if it is OK.
    details : str
        Why it failed, if it is not.
    """

    number: int
    sent: float
    seconds: float
    status: str
    version: str = ""
    digest: str = ""
    details: str = ""

    @property
    def answered(self) -> bool:
        """Whether it has its answer."""
        return self.status == "OK"

    @property
    def over(self) -> float:
        """When it was over, in Unix seconds."""
        return self.sent + self.seconds

    def __str__(self) -> str:
        outcome = f"{self.version} {self.digest}" if self.answered else json.dumps(self.details)
        return f"{self.number} {self.sent:.6f} {self.seconds:.6f} {self.status} {outcome}"


@dataclass(frozen=True, slots=True)
class End:
    """When the caller stopped sending, in Unix seconds, and how many calls it had sent."""

    time: float
    sent: int

    def __str__(self) -> str:
        return f"end {self.time:.6f} {self.sent}"


def read(lines: Iterable[str]) -> Iterator[Begin | Call | End]:
    """Read a log's lines.

    Raises
    ------
    LogError
        If a line is none of a caller's. One that was cut off is one: read what is complete.
    """
    for place, line in enumerate(lines, 1):
        try:
            yield _entry(line.rstrip("\n"))
        except (ValueError, TypeError) as error:
            raise LogError(f"line {place} is none of a caller's: {line[:200]!r}") from error


def _entry(line: str) -> Begin | Call | End:
    first, second, rest = line.split(" ", 2)
    if first == "begin":
        return Begin(float(second), **json.loads(rest))
    if first == "end":
        return End(float(second), int(rest))
    seconds, status, outcome = rest.split(" ", 2)
    if status != "OK":
        return Call(int(first), float(second), float(seconds), status, details=json.loads(outcome))
    version, digest = outcome.split(" ")
    return Call(int(first), float(second), float(seconds), status, version, digest)
