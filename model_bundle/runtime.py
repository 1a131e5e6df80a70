"""ONNX Runtime's C interface, as far as serving needs it.

The functions stand in a table whose order is a promise of ONNX Runtime: a version only appends to it
(`struct OrtApi` in onnxruntime_c_api.h). Each is bound twice, because one row takes less time than handing
over the interpreter's lock: with the lock kept (for one row), and with it released (for many).
See docs/decisions/0002-inference-call.md.
"""

import ctypes
import functools
import importlib.util
import os
import re
from collections.abc import Callable
from ctypes import POINTER, c_char_p, c_int, c_size_t, c_uint32, c_void_p
from pathlib import Path
from typing import Any

# Read by ONNX Runtime when its library is loaded, and never again: from 1.29 on it would else report
# to its makers.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"

_API_VERSION = 17

# A function's place in struct OrtApi, and its arguments.
_FUNCTIONS: dict[str, tuple[int, list[Any]]] = {
    "CreateEnv": (3, [c_int, c_char_p, c_void_p]),
    "CreateSessionFromArray": (8, [c_void_p, c_char_p, c_size_t, c_void_p, c_void_p]),
    "Run": (9, [c_void_p, c_void_p, c_void_p, c_void_p, c_size_t, c_void_p, c_size_t, c_void_p]),
    "CreateSessionOptions": (10, [c_void_p]),
    "DisableMemPattern": (17, [c_void_p]),
    "DisableCpuMemArena": (19, [c_void_p]),
    "SetIntraOpNumThreads": (24, [c_void_p, c_int]),
    "SetInterOpNumThreads": (25, [c_void_p, c_int]),
    "CreateTensorWithDataAsOrtValue": (
        49,
        [c_void_p, c_void_p, c_size_t, c_void_p, c_size_t, c_int, c_void_p],
    ),
    "CreateCpuMemoryInfo": (69, [c_int, c_int, c_void_p]),
}
_GET_ERROR_MESSAGE = 2
_RELEASE_STATUS = 93
_RELEASE_SESSION = 95
_RELEASE_VALUE = 96
_RELEASE_SESSION_OPTIONS = 100

_ERROR_LEVEL = 3


class RuntimeRefusedError(RuntimeError):
    """ONNX Runtime is absent or of a version that is not known to be right, or it refused a call."""


class Runtime:
    """ONNX Runtime, loaded into this process.

    Attributes
    ----------
    version : str
        Its version.
    run, run_released
        ``OrtApi.Run``, with the interpreter's lock kept and released. Each answers a status, to be given to
        `check`.
    """

    def __init__(self, library: Path):
        base = _Base.from_address(_address(library))
        self.version: str = ctypes.PYFUNCTYPE(c_char_p)(base.get_version_string)().decode()
        check_version(self.version)
        table = ctypes.PYFUNCTYPE(c_void_p, c_uint32)(base.get_api)(_API_VERSION)
        self._table = ctypes.cast(table, POINTER(c_void_p))
        self._error_message = ctypes.PYFUNCTYPE(c_char_p, c_void_p)(self._table[_GET_ERROR_MESSAGE])
        self._release_status = self._release(_RELEASE_STATUS)
        self.release_session = self._release(_RELEASE_SESSION)
        self.release_value = self._release(_RELEASE_VALUE)
        self.release_session_options = self._release(_RELEASE_SESSION_OPTIONS)
        # To bind one takes longer than to call it.
        self._functions = {name: self._function(name) for name in _FUNCTIONS}
        self.run = self._functions["Run"]
        self.run_released = self._function("Run", ctypes.CFUNCTYPE)
        self.environment = self.create("CreateEnv", _ERROR_LEVEL, b"forest")
        arena_allocator, default_memory = 1, 0
        self.memory = self.create("CreateCpuMemoryInfo", arena_allocator, default_memory)

    def create(self, function: str, *arguments: Any) -> int:
        """Call a function that makes an object; return the object's address."""
        created = c_void_p()
        self.call(function, *arguments, ctypes.addressof(created))
        assert created.value is not None  # noqa: S101 - a call without an error has made one
        return created.value

    def create_session(self, graph: bytes, options: int) -> int:
        """Make a session; return its address. It takes long: the interpreter's lock is released meanwhile."""
        created = c_void_p()
        create = self._function("CreateSessionFromArray", ctypes.CFUNCTYPE)
        self.check(create(self.environment, graph, len(graph), options, ctypes.addressof(created)))
        assert created.value is not None  # noqa: S101 - a call without an error has made one
        return created.value

    def call(self, function: str, *arguments: Any) -> None:
        """Call a function that answers a status."""
        self.check(self._functions[function](*arguments))

    def check(self, status: int | None) -> None:
        """Raise `RuntimeRefusedError` if a status is an error, with its message."""
        if status:
            message = self._error_message(status).decode(errors="replace")
            self._release_status(status)
            raise RuntimeRefusedError(f"ONNX Runtime: {message}")

    def _function(
        self, name: str, prototype: Callable[..., Any] = ctypes.PYFUNCTYPE
    ) -> Callable[..., int | None]:
        index, arguments = _FUNCTIONS[name]
        function: Callable[..., int | None] = prototype(c_void_p, *arguments)(self._table[index])
        return function

    def _release(self, index: int) -> Callable[[int], None]:
        function: Callable[[int], None] = ctypes.PYFUNCTYPE(None, c_void_p)(self._table[index])
        return function


@functools.cache
def load() -> Runtime:
    """Return the runtime of the installed `onnxruntime` package. Its Python half is not imported."""
    package = importlib.util.find_spec("onnxruntime")
    if package is None or not package.submodule_search_locations:
        raise RuntimeRefusedError("onnxruntime is not installed: install server/requirements.txt")
    folder = Path(package.submodule_search_locations[0]) / "capi"
    libraries = [
        path for path in sorted(folder.glob("libonnxruntime.*")) if "providers" not in path.name
    ] or sorted(folder.glob("onnxruntime.dll"))
    if not libraries:
        raise RuntimeRefusedError(f"no ONNX Runtime library in {folder}: install the onnxruntime wheel again")
    return Runtime(libraries[0])


def give_back() -> None:
    """Give the machine back what loading took for a while. glibc would keep it; others have no such function.

    To make two sessions, read their files and replay their golden rows leaves 13 MiB, which take 1 ms.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim:
        trim(0)


def check_version(version: str) -> None:
    """Raise `RuntimeRefusedError` for versions that score forests wrongly, or are not known.

    1.26 and 1.27 give wrong labels and probabilities for binary forests (onnxruntime#28557).
    """
    match = re.match(r"(\d+)\.(\d+)", version)
    release = (int(match[1]), int(match[2])) if match else (0, 0)
    if not (1, 28) <= release < (2, 0):
        raise RuntimeRefusedError(
            f"ONNX Runtime {version} is not known to score forests right: install one from 1.28 on, below 2"
        )


class _Base(ctypes.Structure):
    """struct OrtApiBase."""

    _fields_ = (("get_api", c_void_p), ("get_version_string", c_void_p))


def _address(library: Path) -> int:
    get_base = ctypes.PyDLL(str(library)).OrtGetApiBase
    get_base.restype = c_void_p
    address: int = get_base()
    return address
