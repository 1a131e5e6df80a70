"""The audit log of one process: what takes decisions, and brings their records to files.

``best-effort``: a thread writes what was recorded, some times a second. Calls do not wait for it; what it cannot
write is lost, and counted.

``strict``: who answers calls commits before. All that was recorded until then is written and synchronised at once,
for all answers that wait: as many calls as come together share what one write costs.
"""

import logging
import math
import threading
import time
from collections.abc import Generator, Iterable
from pathlib import Path
from typing import Literal

import numpy as np
import orjson
from numpy.typing import NDArray

from server.audit import record
from server.audit.files import Files
from server.audit.record import Form, Inputs
from server.call import Call
from server.models import Model
from server.status import Code, StatusError

_log = logging.getLogger(__name__)

_INTERVAL = 0.25
_TIDY_INTERVAL = 600.0
# What `best-effort` holds at most for its thread to write: some seconds of one core's decisions.
_BUFFER_BYTES = 32 * 1024 * 1024
# Rows whose lines are made in one step: about a millisecond.
_STEP = 256
_LEAST_KEY_BYTES = 16

_dumps = orjson.dumps
_row_values = record.row_values
_now = time.time_ns
_clock = time.perf_counter_ns


class Audit:
    """Records decisions.

    Parameters
    ----------
    mode
        ``best-effort`` or ``strict``.
    files
        Where records go.
    inputs
        What a record has of a row.
    redacted
        Names of features that no record has: ``Amount``, or ``fraud.Amount``.
    key
        The file of the key by which rows are hashed.

    Attributes
    ----------
    records, bytes : int
        Written, since the start.
    dropped : int
        Records that `best-effort` has lost.
    failures : int
        Writes that failed.

    Raises
    ------
    OSError, ValueError
        If the key cannot be read, or is too short.
    """

    def __init__(
        self,
        mode: Literal["best-effort", "strict"],
        files: Files,
        inputs: Inputs = "values",
        redacted: Iterable[str] = (),
        key: Path | None = None,
    ):
        self.records = 0
        self.bytes = 0
        self.dropped = 0
        self.failures = 0
        self._strict = mode == "strict"
        self._files = files
        self._inputs = inputs
        self._redacted = frozenset(redacted)
        self._key = _read_key(key) if key else b""
        self._forms: dict[str, Form] = {}
        self._second = (0, b"")
        # Held by who adds lines, and by who takes them.
        self._adding = threading.Lock()
        self._lines: list[bytes] = []
        self._waiting = 0
        # `strict` loses nothing; what it holds is bounded by the rows in flight.
        self._most_waiting = math.inf if self._strict else _BUFFER_BYTES
        self._added = 0
        # Held by who writes.
        self._writing = threading.Lock()
        self._failed = 0
        self._reason = ""
        # Up to where each thread has committed.
        self._committed: dict[int, int] = {}
        self._complained = False
        self._wake = threading.Event()
        self._thread = threading.Thread(target=self._run, name="audit", daemon=True)

    def start(self) -> None:
        """Begin to write."""
        self._thread.start()

    def unknown(self, models: Iterable[Model]) -> list[str]:
        """Return the redacted names that no feature of some models has."""
        known = {
            name
            for model in models
            if model.manifest
            for feature in model.manifest.features
            for name in (feature.name, f"{model.name}.{feature.name}")
        }
        return sorted(self._redacted - known)

    def row(self, call: Call, model: Model, row: NDArray[np.float32], score: float) -> None:
        """Record the decision about a single row.

        Parameters
        ----------
        row : ndarray of float32, shape (features,)
            Its codes. They are not kept.
        """
        form = self._forms.get(model.digest) or self._form(model)
        second, microseconds = self._time()
        line = form.line(
            second,
            microseconds,
            _dumps(call.request_id),
            b"null",
            _dumps(call.caller),
            _row_values(row),
            score,
            (_clock() - call.arrived) * 1e-9,
        )
        with self._adding:
            self._added += 1
            if self._waiting < self._most_waiting:
                self._lines.append(line)
                self._waiting += len(line)
            else:
                self.dropped += 1
        call.recorded = self._strict

    def rows(
        self, call: Call, model: Model, matrix: NDArray[np.float32], scores: NDArray[np.float64]
    ) -> Generator[None, None, None]:
        """Record the decisions about many rows, in steps of a millisecond or so.

        Parameters
        ----------
        matrix : ndarray of float32, shape (rows, features)
            Their codes.
        scores : ndarray of float64, shape (rows,)
        """
        form = self._forms.get(model.digest) or self._form(model)
        latency = (_clock() - call.arrived) * 1e-9
        request_id, caller = _dumps(call.request_id), _dumps(call.caller)
        for first in range(0, len(matrix), _STEP):
            if first:
                yield
            second, microseconds = self._time()
            values = record.rows_values(matrix[first : first + _STEP])
            lines = [
                form.line(second, microseconds, request_id, b"%d" % row, caller, codes, score, latency)
                for row, (codes, score) in enumerate(
                    zip(values, scores[first : first + _STEP].tolist(), strict=True), first
                )
            ]
            size = sum(map(len, lines))
            with self._adding:
                self._added += len(lines)
                if self._waiting < self._most_waiting:
                    self._lines += lines
                    self._waiting += size
                else:
                    self.dropped += len(lines)
        call.recorded = self._strict

    def commit(self) -> None:
        """Let all that the calling thread's answers tell of be on the disk, where the mode is `strict`.

        Raises
        ------
        StatusError
            UNAVAILABLE if it is not. Answers with recorded decisions must not be sent then.
        """
        if not self._strict:
            return
        thread = threading.get_ident()
        with self._writing:
            # What this thread recorded may be among what another one has just tried to write.
            end = self._write()
            failed = self._failed > self._committed.get(thread, 0)
            self._committed[thread] = end
        if failed:
            raise StatusError(
                Code.UNAVAILABLE,
                f"the decision is not told, since the audit log cannot be written ({self._reason}): "
                "try again, or call another server",
            )

    def close(self) -> None:
        """Write what there is, and close the file."""
        self._wake.set()
        self._thread.join()
        with self._writing:
            self._write()
            try:
                self._files.close()
            except OSError as error:
                _log.error("the audit log's file cannot be closed: %s", error.strerror)

    def _form(self, model: Model) -> Form:
        assert model.manifest
        assert model.bundle
        form = self._forms[model.digest] = Form(
            model.manifest,
            model.digest,
            model.bundle.decision,
            self._inputs,
            self._redacted,
            self._key,
        )
        return form

    def _time(self) -> tuple[bytes, int]:
        """Return the second, as a record has it, and the microseconds that have passed of it."""
        seconds, rest = divmod(_now(), 1_000_000_000)
        known = self._second
        if known[0] != seconds:
            known = self._second = (seconds, record.second_of(seconds))
        return known[1], rest // 1000

    def _run(self) -> None:
        tidied = time.monotonic()
        while not self._wake.wait(_INTERVAL):
            try:
                with self._writing:
                    if not self._strict:
                        self._write()
                    rotated = self._files.rotate()
                if rotated or time.monotonic() - tidied > _TIDY_INTERVAL:
                    self._files.tidy()
                    tidied = time.monotonic()
            except Exception:
                # Whatever it is, calls go on, and so must this.
                _log.exception("fault while the audit log's files were looked after")

    def _write(self) -> int:
        """Write all lines that were added until now, and return how many those are since the start."""
        with self._adding:
            lines, self._lines = self._lines, []
            self._waiting = 0
            added = self._added
        if not lines:
            return added
        data = b"".join(lines)
        try:
            self._files.write(data, durably=self._strict)
        except OSError as error:
            self.failures += 1
            self._failed = added
            self._reason = error.strerror or str(error)
            if not self._strict:
                self.dropped += len(lines)
            if not self._complained:
                _log.error("the audit log cannot be written: %s. It is tried on and on", self._reason)
            self._complained = True
        else:
            self.records += len(lines)
            self.bytes += len(data)
            if self._complained:
                _log.warning("the audit log is written again")
            self._complained = False
        return added


def _read_key(file: Path) -> bytes:
    try:
        key = file.read_bytes()
    except OSError as error:
        raise OSError(f"audit_key: cannot read {file}: {error.strerror}") from error
    if len(key) < _LEAST_KEY_BYTES:
        raise ValueError(
            f"audit_key: {file} has {len(key)} bytes, and {_LEAST_KEY_BYTES} at least are needed: "
            "openssl rand -out FILE 32 makes some"
        )
    return key
