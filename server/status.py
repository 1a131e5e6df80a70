"""How a call fails: a code, a message, and details by `google.rpc`. Only here do errors become statuses."""

from collections.abc import Iterable
from enum import IntEnum

from google.protobuf.message import Message
from google.rpc.error_details_pb2 import BadRequest
from google.rpc.status_pb2 import Status

from model_bundle.encoding import Violation

# Trailers have 8 KiB by default in most clients, and binary ones grow by a third.
_DETAILS_BYTES = 3000
_NAME_CHARACTERS = 64
# Percent-encoded for the trailers, a character may take twelve bytes.
_MESSAGE_CHARACTERS = 500


class Code(IntEnum):
    """The status codes of gRPC that this server answers with."""

    OK = 0
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    PERMISSION_DENIED = 7
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


def invalid_row(row: int, violations: list[Violation]) -> StatusError:
    """Return the error of a row. As many violations are told as a client can be trusted to receive."""
    request = BadRequest()
    for violation in violations:
        feature = violation.feature[:_NAME_CHARACTERS]
        request.field_violations.add(
            field=f"rows[{row}].{feature}" if feature else f"rows[{row}]",
            reason=violation.reason,
            description=violation.message[: 4 * _NAME_CHARACTERS],
        )
        if request.ByteSize() > _DETAILS_BYTES and len(request.field_violations) > 1:
            del request.field_violations[-1]
            break
    told = request.field_violations
    message = f"row {row}: {told[0].description}"
    if len(violations) > 1:
        message += f" (and {len(violations) - 1} more)"
    return StatusError(Code.INVALID_ARGUMENT, message, [request])
