"""Server reflection, so that grpcurl and the like need no proto files."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from google.protobuf import descriptor_pool
from google.protobuf.message import DecodeError
from grpc_reflection.v1alpha import reflection_pb2 as pb

from server.call import Call, Exchange, Method
from server.status import Code, StatusError


class Reflection:
    """Tells about services from their descriptors.

    Version 1 of the protocol has the messages of v1alpha under another package's name, so both are answered
    by the same bytes.

    Parameters
    ----------
    services
        Full names of the services to list.
    """

    names = ("grpc.reflection.v1.ServerReflection", "grpc.reflection.v1alpha.ServerReflection")

    def __init__(self, services: Iterable[str]):
        self._services = sorted(services)
        self._pool = descriptor_pool.Default()

    def methods(self) -> Mapping[str, Method]:
        """Return the service's methods by name."""
        return {"ServerReflectionInfo": Exchange(self.answer)}

    def answer(self, data: bytes, _call: Call) -> bytes:
        """Answer one question: a serialised ServerReflectionRequest in, a ServerReflectionResponse out."""
        try:
            request = pb.ServerReflectionRequest.FromString(data)
        except DecodeError as error:
            raise StatusError(Code.INVALID_ARGUMENT, "the request is no ServerReflectionRequest") from error
        response = pb.ServerReflectionResponse(valid_host=request.host, original_request=request)
        pool = self._pool
        match request.WhichOneof("message_request"):
            case "list_services":
                response.list_services_response.service.extend(
                    pb.ServiceResponse(name=name) for name in self._services
                )
            case "file_by_filename":
                _files(response, lambda: pool.FindFileByName(request.file_by_filename))
            case "file_containing_symbol":
                _files(response, lambda: self._file_of(request.file_containing_symbol))
            case "all_extension_numbers_of_type" | "file_containing_extension":
                _fail(response, Code.NOT_FOUND, "the API has no extensions")
            case _:
                _fail(response, Code.INVALID_ARGUMENT, "the request asks for nothing")
        return response.SerializeToString()

    def _file_of(self, symbol: str) -> Any:
        try:
            return self._pool.FindFileContainingSymbol(symbol)
        except KeyError:
            # It finds everything but methods.
            return self._pool.FindMethodByName(symbol).containing_service.file


def _files(response: pb.ServerReflectionResponse, find: Callable[[], Any]) -> None:
    """Put a file and all that it imports into a response."""
    try:
        files = {file.name: file for file in _with_imports(find())}
    except KeyError as error:
        _fail(response, Code.NOT_FOUND, f"not found: {error.args[0] if error.args else ''}")
        return
    response.file_descriptor_response.file_descriptor_proto.extend(
        file.serialized_pb for file in files.values()
    )


def _with_imports(file: Any) -> Iterable[Any]:
    yield file
    for imported in file.dependencies:
        yield from _with_imports(imported)


def _fail(response: pb.ServerReflectionResponse, code: Code, message: str) -> None:
    response.error_response.error_code = code
    response.error_response.error_message = message[:200]
