"""Memory that ONNX Runtime and the loading of bundles leave free goes back to the machine."""

import ctypes
import re
from pathlib import Path

import pytest

from model_bundle import runtime

_PIECE, _PIECES = 32 * 1024, 1_000


def _anonymous() -> int:
    """Return bytes of memory of this process's own."""
    found = re.search(r"RssAnon:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found
    return int(found[1]) * 1024


def test_what_is_free_between_what_is_used_is_given_back() -> None:
    library = ctypes.CDLL(None)
    if not hasattr(library, "malloc_trim"):
        pytest.skip("no glibc: there is nothing to call")
    library.malloc.restype = ctypes.c_void_p
    library.free.argtypes = [ctypes.c_void_p]
    pieces = [library.malloc(_PIECE) for _ in range(_PIECES)]
    for piece in pieces:
        ctypes.memset(piece, 1, _PIECE)
    # The last keeps the others from being at the end, where free() gives them back by itself.
    *others, last = pieces
    for piece in others:
        library.free(piece)
    before = _anonymous()
    runtime.give_back()
    assert before - _anonymous() > 0.8 * _PIECE * _PIECES
    library.free(last)
