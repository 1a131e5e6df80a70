"""The audit log of one process: what takes decisions, and brings their records to files.

``best-effort``: a thread writes what was recorded, some times a second. Calls do not wait for it; what it
cannot write is lost, and counted.

``strict``: who answers calls commits before. All that was recorded until then is written and synchronised at
once, for all answers that wait: as many calls as come together share what one write costs.
"""

import logging
import math
import threading
import time
from collections import deque
from collections.abc import Generator, Iterable, Iterator
from itertools import groupby, islice, repeat
from pathlib import Path
from typing import cast

import numpy as np
import orjson
from numpy.typing import NDArray

from server.audit import record
from server.audit.files import Files
from server.audit.record import Form
from server.call import Call
from server.config import Config
from server.decisions import Identity
from server.models import Model
from server.status import Code, StatusError
from server.store import Store

_log = logging.getLogger(__name__)

_INTERVAL = 0.05
_TIDY_INTERVAL = 600.0
_CLOSING = 10.0
# What `best-effort` holds at most for its thread to write: some seconds of one core's decisions.
_BUFFER_BYTES = 32 * 1024 * 1024
# Rows whose lines are made in one step: about a millisecond.
_STEP = 256
_LEAST_KEY_BYTES = 16
# Single rows whose lines are made together.
_TOGETHER = 64

_dumps = orjson.dumps
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
    store
        Where records are counted; None for one of its own.

    Attributes
    ----------
    records, bytes : memoryview
        The cell that counts what was written.
    dropped : memoryview
        That of records which `best-effort` has lost.
    failures : memoryview
        That of writes which failed.

    Raises
    ------
    OSError, ValueError
        If the key cannot be read, or is too short.
    """

    def __init__(
        self,
        mode: str,
        files: Files,
        *,
        inputs: str = "values",
        redacted: Iterable[str] = (),
        key: Path | None = None,
        store: Store | None = None,
    ):
        store = store or Store()
        self.records = store.cells("forest_audit_records_total", {})
        self.bytes = store.cells("forest_audit_bytes_total", {})
        self.dropped = store.cells("forest_audit_dropped_total", {})
        self.failures = store.cells("forest_audit_failures_total", {})
        self._strict = mode == "strict"
        self._files = files
        self._inputs = inputs
        self._redacted = frozenset(redacted)
        self._key = _read_key(key) if key else b""
        self._forms: dict[str, Form] = {}
        # Any thread adds to it, without a lock.
        self._found: deque[_Decided | _Made] = deque()
        # What is just being written of it.
        self._written: list[_Decided | _Made] = []
        # Their bytes, or nearly so: of two threads that add at once one may not be counted.
        self._waiting = 0
        # `strict` loses nothing; what it holds is bounded by the rows in flight.
        self._most_waiting = math.inf if self._strict else _BUFFER_BYTES
        self._dropping = threading.Lock()
        # Held by who writes.
        self._writing = threading.Lock()
        self._taken = 0
        self._failed = 0
        self._reason = ""
        # Up to where each thread has committed.
        self._committed: dict[int, int] = {}
        self._complained = False
        self._wake = threading.Event()
        self._thread = threading.Thread(target=self._run, name="audit", daemon=True)

    @classmethod
    def of(cls, config: Config, store: Store) -> "Audit | None":
        """Return the audit log of settings; None if there is to be none."""
        if config.audit == "off" or config.audit_folder is None:
            return None
        files = Files(
            config.audit_folder,
            config.audit_rotate_bytes,
            config.audit_rotate_seconds,
            config.audit_keep_days,
        )
        return cls(
            config.audit,
            files,
            inputs=config.audit_inputs,
            redacted=filter(None, map(str.strip, config.audit_redact.split(","))),
            key=config.audit_key,
            store=store,
        )

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

    def row(self, call: Call, model: Identity, row: NDArray[np.float32], score: float) -> None:
        """Record the decision about a single row.

        Parameters
        ----------
        row : ndarray of float32, shape (features,)
            Its codes. They are not kept.
        """
        form = self._forms.get(model.digest) or self._form(model)
        if self._waiting < self._most_waiting:
            # Lines of many are made together, when they are written: that costs less, and not this call.
            self._found.append(
                (
                    form,
                    row.tobytes(),
                    call.scored,
                    call.arrived,
                    call.request_id[: record.REQUEST_ID],
                    call.caller,
                    score,
                )
            )
            self._waiting += form.size
        else:
            self._drop(1)
        call.recorded = self._strict

    def rows(
        self, call: Call, model: Identity, rows: NDArray[np.float32], scores: NDArray[np.float64]
    ) -> Generator[None, None, None]:
        """Record the decisions about many rows, in steps of a millisecond or so.

        Parameters
        ----------
        rows : ndarray of float32, shape (rows, features)
            Their codes.
        scores : ndarray of float64, shape (rows,)
        """
        form = self._forms.get(model.digest) or self._form(model)
        now = _clock()
        decided, latency = now + _epoch(), (now - call.arrived) * 1e-9
        request_id, caller = _dumps(call.request_id[: record.REQUEST_ID]), _dumps(call.caller)
        for first in range(0, len(rows), _STEP):
            if first:
                yield
            some = scores[first : first + _STEP]
            if self._waiting < self._most_waiting:
                lines = form.lines(
                    rows[first : first + _STEP],
                    some,
                    requests=repeat(request_id, len(some)),
                    places=map(b"%d".__mod__, range(first, first + len(some))),
                    callers=repeat(caller, len(some)),
                    times=np.full(len(some), decided),
                    latencies=np.full(len(some), latency),
                )
                self._found.append((len(some), lines))
                self._waiting += len(lines)
            else:
                self._drop(len(some))
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

    def close(self, grace: float = _CLOSING) -> None:
        """Write what there is, and close the file. A disk that does not answer has ``grace`` seconds."""
        self._wake.set()
        self._thread.join(grace)
        if not self._thread.is_alive():
            return
        if self._strict:
            told = "no answer was sent whose record is not on it"
        else:
            lost = _count((*self._written, *self._found))
            self._drop(lost)
            told = f"{lost} records are lost, unless it takes them yet"
        _log.error("the audit log's disk does not answer, and its file is left open: %s", told)

    def _form(self, model: Identity) -> Form:
        form = self._forms[model.digest] = Form(
            model.bundle.manifest,
            model.digest,
            model.bundle.decision,
            inputs=self._inputs,
            redacted=self._redacted,
            key=self._key,
        )
        return form

    def _drop(self, records: int) -> None:
        with self._dropping:
            self.dropped[0] += records

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
        with self._writing:
            self._write()
            try:
                self._files.close()
            except OSError as error:
                _log.error("the audit log's file cannot be closed: %s", error.strerror)

    def _write(self) -> int:
        """Write all lines that were added until now, and return how many were taken since the start."""
        # Others go on adding meanwhile.
        found = self._written = [self._found.popleft() for _ in range(len(self._found))]
        self._waiting = 0
        self._taken = taken = self._taken + len(found)
        if not found:
            return taken
        try:
            records, data = _lines(found)
            self._files.write(data, durably=self._strict)
        except Exception as error:
            # Whatever it is: those whose records are lost may be answered by another thread.
            self.failures[0] += 1
            self._failed = taken
            if not self._strict:
                self._drop(_count(found))
            if isinstance(error, OSError):
                self._reason = error.strerror or str(error)
            else:
                self._reason = "a fault of the server"
            if not self._complained:
                if not isinstance(error, OSError):
                    _log.exception("fault while records were made")
                _log.error("the audit log cannot be written: %s. It is tried on and on", self._reason)
            self._complained = True
        else:
            self.records[0] += records
            self.bytes[0] += len(data)
            if self._complained:
                _log.warning("the audit log is written again")
            self._complained = False
        self._written = []
        return taken


_Decided = tuple[Form, bytes, int, int, str, str, float]
"""A decision about a single row, of which no line is made yet: by which bundle, the row, when it was scored
and had arrived by the clock of calls, the request's and the caller's name, and the score."""
_Made = tuple[int, bytes]
"""Lines that are made, and how many they are."""


def _count(found: Iterable[_Decided | _Made]) -> int:
    """Return how many records there are."""
    return sum(1 if isinstance(each[0], Form) else each[0] for each in found)


def _lines(found: Iterable[_Decided | _Made]) -> tuple[int, bytes]:
    """Return how many records there are, and their lines in the order in which they came."""
    records = 0
    parts: list[bytes] = []
    for form, each in groupby(found, lambda item: item[0] if isinstance(item[0], Form) else None):
        if form is None:
            for count, lines in cast("Iterator[_Made]", each):
                records += count
                parts.append(lines)
            continue
        while decided := list(islice(cast("Iterator[_Decided]", each), _TOGETHER)):
            _, rows, scored, arrived, requests, callers, scores = zip(*decided, strict=True)
            times = np.array(scored)
            lines = form.lines(
                np.frombuffer(b"".join(rows), np.float32).reshape(len(rows), -1),
                np.array(scores),
                requests=map(_dumps, requests),
                places=repeat(b"null", len(decided)),
                callers=map(_dumps, callers),
                times=times + _epoch(),
                latencies=(times - np.array(arrived)) * 1e-9,
            )
            parts.append(lines)
            records += len(decided)
    return records, b"".join(parts)


def _epoch() -> int:
    """Return what the clock of calls lacks to the time since the epoch, in ns."""
    return time.time_ns() - _clock()


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
