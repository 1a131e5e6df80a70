"""Features of an hourly table's own past: what was known some hours before each of its rows."""

import datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model_export.recipe import Columns

DAY, WEEK = 24, 168
_WEEKS = 4
_ALIKE = 4

Hours = NDArray[np.intp]
Values = NDArray[np.float64]


def by_hour(columns: Columns, day: str, hour: str) -> tuple[Hours, Columns]:
    """Return the rows in the order of time, with the hours from the first one to each.

    Parameters
    ----------
    columns
        A table.
    day, hour
        Its columns of days, as `model_export.cell.date` reads them, and of hours from 0 to 23.

    Raises
    ------
    ValueError
        If an hour is none, or is there twice.
    """
    if (odd := ~np.isin(columns[hour], np.arange(DAY))).any():
        raise ValueError(f"column {hour}: {columns[hour][odd][0]:g} is no hour from 0 to 23")
    at = (columns[day] * DAY + columns[hour]).astype(np.intp)
    order = np.argsort(at, kind="stable")
    at = at[order]
    if (twice := np.diff(at) == 0).any():
        days, hours = divmod(int(at[1:][twice][0]), DAY)
        raise ValueError(f"{datetime.date.fromordinal(days)}, hour {hours}, is there twice")
    return at - at[0], {name: values[order] for name, values in columns.items()}


def known(columns: Columns) -> Columns:
    """Return the rows that have all of their past: those without a NaN."""
    whole = np.all([~np.isnan(values.astype(np.float64)) for values in columns.values()], axis=0)
    return {name: values[whole] for name, values in columns.items()}


class Series:
    """A number by the hour.

    Parameters
    ----------
    at : ndarray of intp, shape (rows,)
        Hours from the first row, ascending.
    values : ndarray of float64, shape (rows,)
    absent
        What an hour that is not among them has; None for what the hour before it had.
    """

    def __init__(self, at: Hours, values: NDArray[Any], absent: float | None = None):
        self._at = at
        if absent is None:
            self._hourly: Values = values[np.searchsorted(at, np.arange(at[-1] + 1), side="right") - 1]
        else:
            self._hourly = np.full(at[-1] + 1, absent)
            self._hourly[at] = values

    def ago(self, hours: int) -> Values:
        """Return the number so many hours before each row; NaN before the first."""
        place = self._at - hours
        return np.where(place >= 0, self._hourly[place.clip(0)], np.nan)

    def mean(self, ago: int, hours: int) -> Values:
        """Return the mean of so many hours, the last of which is ``ago`` hours before each row."""
        mean: Values = np.mean([self.ago(ago + back) for back in range(hours)], axis=0)
        return mean

    def usual(self, ago: int = 0, hours: int = 1) -> Values:
        """Return the same mean as `mean`, but of those hours in the four weeks before."""
        mean: Values = np.mean([self.mean(ago + WEEK * week, hours) for week in range(1, _WEEKS + 1)], axis=0)
        return mean

    def trend(self, ago: int, hours: int) -> Values:
        """Return how the mean compares with the usual one. To both 1 is added: at night they may be 0."""
        return (self.mean(ago, hours) + 1) / (self.usual(ago, hours) + 1)

    def alike(self, kind: "Series", ago: int) -> Values:
        """Return the mean of the same hour on the last four days of the same kind.

        Parameters
        ----------
        kind
            What kind of day each hour is of, as whether it is a working day.
        ago
            How many hours before each row are not known yet.
        """
        found, total = np.zeros(len(self._at)), np.zeros(len(self._at))
        for hours in range(-(-ago // DAY) * DAY, _WEEKS * WEEK + 1, DAY):
            same = (kind.ago(hours) == kind.ago(0)) & (found < _ALIKE)
            total += np.where(same, self.ago(hours), 0)
            found += same
        return np.where(found == _ALIKE, total / _ALIKE, np.nan)
