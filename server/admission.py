"""How many rows may be under way, and what becomes of those beyond."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from server.status import exhausted
from server.store import Store

# Rows are scored within so long, or nearly: an estimate for who is to come again.
_RETRY_AFTER = 0.1


class Admission:
    """Counts the rows that wait to be scored or are being scored.

    Rows that come one by one are scored as soon as they are read. They never wait here, and are not counted.

    Parameters
    ----------
    max_batch_rows
        How many rows one request may have.
    max_rows_in_flight
        How many there may be of all requests together.
    store
        Where they are told; None for one of its own.

    Attributes
    ----------
    rows : int
        How many there are.
    """

    def __init__(
        self, max_batch_rows: int = 10_000, max_rows_in_flight: int = 40_000, store: Store | None = None
    ):
        store = store or Store()
        self._told = store.cells("forest_rows_in_flight", {})
        store.cells("forest_rows_in_flight_limit", {})[0] = max_rows_in_flight
        self.max_batch_rows = max_batch_rows
        self._max_rows_in_flight = max_rows_in_flight
        self._lock = threading.Lock()
        self.rows = 0

    @contextmanager
    def admitted(self, rows: int) -> Iterator[None]:
        """Count rows as long as the ``with`` block lasts.

        Raises
        ------
        StatusError
            RESOURCE_EXHAUSTED, at once, if there would be too many.
        """
        with self._lock:
            if self.rows + rows > self._max_rows_in_flight:
                raise exhausted(
                    f"{rows} rows are too many now: {self.rows} are in flight, "
                    f"and {self._max_rows_in_flight} may be",
                    _RETRY_AFTER,
                )
            self.rows += rows
            self._told[0] = self.rows
        try:
            yield
        finally:
            with self._lock:
                self.rows -= rows
                self._told[0] = self.rows
