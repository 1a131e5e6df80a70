"""How far a file has been scored, shown on a terminal and nowhere else."""

import sys
from types import TracebackType
from typing import Never, Self

from tqdm import tqdm

from forest_client.summary import Summary
from forest_client.table import Table

_FORMAT = "{desc}: {percentage:3.0f}%|{bar}| {postfix} [{elapsed}<{remaining}]"
_FORMAT_WITHOUT_SIZE = "{desc}: {postfix} [{elapsed}]"


class Progress:
    """A bar on standard error, by how much of the file's bytes have been read.

    Parameters
    ----------
    table
        The file that is read.
    summary
        What has come of it.
    shown
        False if standard output is a terminal too, where the scores themselves show the progress.
    """

    def __init__(self, table: Table, summary: Summary, shown: bool):
        self._table = table
        self._summary = summary
        size = table.size
        self._bar: tqdm[Never] = tqdm(
            desc=table.name,
            total=size,
            bar_format=_FORMAT if size else _FORMAT_WITHOUT_SIZE,
            file=sys.stderr,
            leave=False,
            # None: unless the stream is no terminal.
            disable=None if shown else True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._bar.close()

    def update(self) -> None:
        """Show how far it is, a few times a second."""
        if not self._bar.disable:
            self._bar.set_postfix_str(
                f"{self._summary.rows:,} rows, {self._summary.rate:,.0f}/s", refresh=False
            )
            self._bar.update(self._table.position - self._bar.n)

    def write(self, line: str) -> None:
        """Write a line to standard error without disturbing the bar."""
        tqdm.write(line, file=sys.stderr)
