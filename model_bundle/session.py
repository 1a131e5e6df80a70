"""A session: an ONNX graph, ready to score. Export proves it, and the server runs it, by this one code."""

import ctypes
import weakref
from ctypes import c_char_p, c_int64, c_void_p
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model_bundle import runtime
from model_bundle.graph import fastest, splits
from model_bundle.manifest import Graph

_FLOAT = 1
# Rows that are scored in less time than the lock may be away for.
_FEW = 64
# Fewer rows are scored before an order of them has paid for itself.
_FEWEST_ORDERED = 256
# As many as the bits of an integer, which numpy sorts fast.
_SPLITS = 16


class Session:
    """Scores rows with an ONNX graph.

    One thread sums the trees, always in the same order: a row's score does not depend on its batch. There is
    no memory arena: it would grow with every new batch size.

    Parameters
    ----------
    graph
        The serialised ONNX model: float32 ``(rows, features)`` in, float32 ``(rows, columns)`` out.
    names
        Its input and output, and which column is the score.
    row : ndarray of float32, shape (features,)
        The memory that `score_row` reads its row from.

    Raises
    ------
    RuntimeRefusedError
        If ONNX Runtime is not one known to be right, or refuses the graph.
    """

    def __init__(self, graph: bytes, names: Graph, row: NDArray[np.float32]):
        self._runtime = runtime.load()
        graph, names = fastest(graph, names)
        self._columns = names.columns
        self._column = names.column
        options = self._runtime.create("CreateSessionOptions")
        try:
            self._runtime.call("SetIntraOpNumThreads", options, 1)
            self._runtime.call("SetInterOpNumThreads", options, 1)
            self._runtime.call("DisableCpuMemArena", options)
            self._runtime.call("DisableMemPattern", options)
            self._session = self._runtime.create_session(graph, options)
        finally:
            self._runtime.release_session_options(options)
        self._features, self._thresholds = splits(graph, _SPLITS)
        self._input_name = (c_char_p * 1)(names.input.encode())
        self._output_name = (c_char_p * 1)(names.output.encode())

        self._row = row
        self._row_scores = (ctypes.c_float * names.columns)()
        self._row_tensors = [
            self._tensor(row.ctypes.data, 1, row.size),
            self._tensor(ctypes.addressof(self._row_scores), 1, names.columns),
        ]
        self._release = weakref.finalize(self, _release, self._runtime, self._session, self._row_tensors)
        # A process that ends gives all of it back at once.
        self._release.atexit = False
        self._run_row = self._runtime.run
        self._row_arguments, self._row_memory = self._arguments(*self._row_tensors)

    def score_row(self) -> float:
        """Score the one row. About 6 us for 100 trees: the interpreter's lock is kept."""
        status = self._run_row(*self._row_arguments)
        if status:
            self._runtime.check(status)
        return self._row_scores[self._column]

    def score(self, matrix: NDArray[np.float32]) -> NDArray[np.float32]:
        """Score many rows; if they are more than some dozens, the interpreter's lock is released meanwhile.

        Parameters
        ----------
        matrix : ndarray of float32, shape (rows, features)

        Returns
        -------
        ndarray of float32, shape (rows,)
        """
        matrix = np.ascontiguousarray(matrix, np.float32)
        rows, features = matrix.shape
        scores = np.empty((rows, self._columns), np.float32)
        if rows:
            tensors: list[int] = []
            try:
                tensors.append(self._tensor(matrix.ctypes.data, rows, features))
                tensors.append(self._tensor(scores.ctypes.data, rows, self._columns))
                arguments, _memory = self._arguments(*tensors)
                run = self._runtime.run if rows <= _FEW else self._runtime.run_released
                self._runtime.check(run(*arguments))
            finally:
                for tensor in tensors:
                    self._runtime.release_value(tensor)
        return scores[:, self._column]

    def order(self, matrix: NDArray[np.float32]) -> NDArray[np.intp] | None:
        """Return an order in which rows are scored faster, to the same bits; or None if theirs will do.

        Most of a tree's time goes into the processor's wrong guesses of where a row goes next. It guesses by
        the rows before: so rows are put together that are on the same side of the forest's main splits.

        Parameters
        ----------
        matrix : ndarray of float32, shape (rows, features)

        Returns
        -------
        ndarray of intp, shape (rows,)
            Which row comes when.
        """
        if len(matrix) < _FEWEST_ORDERED or not self._features.size:
            return None
        sides = np.zeros((len(matrix), _SPLITS), np.bool_)
        np.less_equal(matrix.take(self._features, axis=1), self._thresholds, sides[:, : self._features.size])
        keys = np.packbits(sides).view(">u2").astype(np.uint16)
        # Each key's place in the Gray code: from one to the next the fewest sides change.
        for shift in (1, 2, 4, 8):
            keys ^= keys >> shift
        return keys.argsort(kind="stable")

    def close(self) -> None:
        """Give the session's memory back, as also happens to one that nobody has any more."""
        self._release()

    def _tensor(self, address: int, rows: int, columns: int) -> int:
        shape = (c_int64 * 2)(rows, columns)
        size = 4 * rows * columns
        return self._runtime.create(
            "CreateTensorWithDataAsOrtValue",
            self._runtime.memory,
            address,
            size,
            ctypes.addressof(shape),
            2,
            _FLOAT,
        )

    def _arguments(self, matrix: int, scores: int) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
        """Return the arguments of ``OrtApi.Run``, and the memory that must outlive them."""
        inputs, outputs = (c_void_p * 1)(matrix), (c_void_p * 1)(scores)
        arguments = (
            self._session,
            None,
            ctypes.addressof(self._input_name),
            ctypes.addressof(inputs),
            1,
            ctypes.addressof(self._output_name),
            1,
            ctypes.addressof(outputs),
        )
        return arguments, (inputs, outputs)


def _release(loaded: runtime.Runtime, session: int, tensors: list[int]) -> None:
    for tensor in tensors:
        loaded.release_value(tensor)
    loaded.release_session(session)
