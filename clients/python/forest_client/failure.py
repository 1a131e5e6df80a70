"""What went wrong with a call: its status, and each fault of the input."""

from dataclasses import dataclass
from typing import cast

import grpc
from google.protobuf.message import DecodeError
from google.rpc.error_details_pb2 import BadRequest
from google.rpc.status_pb2 import Status

_DETAILS = "grpc-status-details-bin"


@dataclass(frozen=True, slots=True)
class Violation:
    """One fault of the input.

    Attributes
    ----------
    field : str
        Where it is, as ``rows[0].Amount``.
    reason : str
        What it is, for programs, as ``MISSING_FEATURE``. forest/v1/prediction_service.proto lists them.
    message : str
        The same for people.
    """

    field: str
    reason: str
    message: str

    @property
    def feature(self) -> str:
        """The feature's name, empty if the whole row is at fault."""
        return self.field.partition(".")[2]


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a call failed. ``violations`` is empty unless the code is INVALID_ARGUMENT."""

    code: grpc.StatusCode
    message: str
    violations: tuple[Violation, ...] = ()


def failure_of(error: grpc.RpcError) -> Failure:
    """Return what an exception of a call says.

    Parameters
    ----------
    error
        What the call raised.

    Returns
    -------
    Failure
        With a violation for each fault that the server found, in its order.
    """
    # grpc raises an object that is both; its types do not say so.
    call = cast(grpc.Call, error)
    return Failure(call.code(), call.details() or "", _violations(call))


def _violations(call: grpc.Call) -> tuple[Violation, ...]:
    status, bad_request = Status(), BadRequest()
    for key, value in call.trailing_metadata() or ():
        if key == _DETAILS:
            try:
                status.ParseFromString(cast(bytes, value))
            except DecodeError:
                # Something between here and the server spoiled them; code and message still hold.
                return ()
    for detail in status.details:
        if detail.Unpack(bad_request):
            return tuple(
                Violation(violation.field, violation.reason, violation.description)
                for violation in bad_request.field_violations
            )
    return ()
