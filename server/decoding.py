"""From a request's bytes to its message."""

from typing import TypeVar

from google.protobuf.message import DecodeError, Message

from server.status import undecodable

_Message = TypeVar("_Message", bound=Message)


def decoded(message: type[_Message], data: bytes) -> _Message:
    """Return the message that bytes are. INVALID_ARGUMENT, with the message's name, if they are none."""
    try:
        return message.FromString(data)
    except DecodeError as error:
        raise undecodable(message.DESCRIPTOR.full_name) from error
