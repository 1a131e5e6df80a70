"""How a call fails: a code, a message, and details by `google.rpc`. Only here do errors become statuses."""

from collections.abc import Iterable, Sequence
from enum import IntEnum

from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.rpc.error_details_pb2 import BadRequest, RetryInfo
from google.rpc.status_pb2 import Status

from model_bundle.encoding import Faults, Violation

# Trailers have 8 KiB by default in most clients, and binary ones grow by a third.
_DETAILS_BYTES = 3000
_NAME_CHARACTERS = 64
# Percent-encoded for the trailers, a character may take twelve bytes.
_MESSAGE_CHARACTERS = 500


class Code(IntEnum):
    """The status codes of gRPC that this server answers with."""

    OK = 0
    CANCELLED = 1
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    UNAUTHENTICATED = 16


class StatusError(Exception):
    """A call's failure, as its caller will see it.

    Parameters
    ----------
    code
        The status code.
    message
        One sentence that names the thing, the place and the way out. A long one is cut.
    details
        Messages of ``google.rpc`` that say the same to a program.
    """

    def __init__(self, code: Code, message: str, details: Iterable[Message] = ()):
        if len(message) > _MESSAGE_CHARACTERS:
            message = message[: _MESSAGE_CHARACTERS - 3] + "..."
        super().__init__(message)
        self.code = code
        self.message = message
        self.details = tuple(details)

    def to_bytes(self) -> bytes:
        """Return the serialised ``google.rpc.Status``, the value of ``grpc-status-details-bin``."""
        status = Status(code=self.code, message=self.message)
        for detail in self.details:
            status.details.add().Pack(detail)
        data: bytes = status.SerializeToString()
        return data


def invalid_request(field: str, reason: str, message: str) -> StatusError:
    """Return the error of a request with a fault in one field of its own."""
    violation = BadRequest.FieldViolation(field=field, reason=reason, description=message)
    return StatusError(Code.INVALID_ARGUMENT, message, [BadRequest(field_violations=[violation])])


def undecodable(message: str, reason: str = "") -> StatusError:
    """Return the error of bytes that are not the message that a method takes."""
    return StatusError(
        Code.INVALID_ARGUMENT,
        f"the request is no {message}{f' ({reason})' if reason else ''}: "
        "generate the client's stubs again from proto/",
    )


def invalid_row(row: int, violations: list[Violation]) -> StatusError:
    """Return the error of a row. As many violations are told as a client can be trusted to receive."""
    faults = Faults()
    faults.add(row, violations)
    return invalid_rows(faults)


def invalid_rows(faults: Faults) -> StatusError:
    """Return the error of rows. As many violations are told as a client can be trusted to receive."""
    fields = (
        (f"rows[{row}].{fault.feature[:_NAME_CHARACTERS]}" if fault.feature else f"rows[{row}]", fault)
        for row, fault in faults.kept
    )
    return _invalid(
        ((field, fault.reason, fault.message) for field, fault in fields),
        faults.count,
        f"row {faults.kept[0][0]}: ",
    )


def invalid_fields(faults: Sequence[tuple[str, str, str]]) -> StatusError:
    """Return the error of a request with faults in fields of its own: field, reason and message of each."""
    return _invalid(faults, len(faults))


def _invalid(faults: Iterable[tuple[str, str, str]], count: int, place: str = "") -> StatusError:
    request = BadRequest()
    for field, reason, message in faults:
        request.field_violations.add(field=field, reason=reason, description=message[: 4 * _NAME_CHARACTERS])
        if request.ByteSize() > _DETAILS_BYTES and len(request.field_violations) > 1:
            del request.field_violations[-1]
            break
    first = place + request.field_violations[0].description
    more = f" (and {count - 1} more)" if count > 1 else ""
    return StatusError(Code.INVALID_ARGUMENT, first + more, [request])


def exhausted(message: str, retry_after: float) -> StatusError:
    """Return the error of a call for which there is no room now, but may be after some seconds."""
    delay = Duration()
    delay.FromMilliseconds(round(1000 * retry_after))
    return StatusError(Code.RESOURCE_EXHAUSTED, message, [RetryInfo(retry_delay=delay)])


def late() -> StatusError:
    """Return the error of a call whose deadline has passed."""
    return StatusError(Code.DEADLINE_EXCEEDED, "the deadline had passed before the work was done")
