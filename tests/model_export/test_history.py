"""Features of the past: right by hand, and of the past alone."""

import datetime

import numpy as np
import pytest

from model_export import recipe
from model_export.history import DAY, WEEK, Series, by_hour, known


def test_rows_are_put_in_order_and_counted_in_hours():
    at, columns = by_hour(
        {"day": np.array([3.0, 2.0, 2.0]), "hr": np.array([0.0, 23.0, 1.0]), "x": np.array([30, 20, 10])},
        "day",
        "hr",
    )
    assert at.tolist() == [0, 22, 23]
    assert columns["x"].tolist() == [10, 20, 30]


@pytest.mark.parametrize(
    ("hours", "message"),
    [
        ([1.0, 24.0], "column hr: 24 is no hour"),
        ([0.5, 1.0], "column hr: 0.5 is no"),
        ([7.0, 7.0], "2011-01-31, hour 7"),
    ],
)
def test_refuses_hours_that_are_none_or_there_twice(hours: list[float], message: str):
    day = float(datetime.date(2011, 1, 31).toordinal())
    with pytest.raises(ValueError, match=message):
        by_hour({"day": np.array([day, day]), "hr": np.array(hours)}, "day", "hr")


def test_what_was_known_so_many_hours_ago():
    at = np.array([0, 1, 3, 4])
    counts = Series(at, np.array([5.0, 6.0, 8.0, 9.0]), absent=0)
    assert np.array_equal(counts.ago(1), [np.nan, 5, 0, 8], equal_nan=True)
    assert np.array_equal(counts.mean(1, 2), [np.nan, np.nan, 3, 4], equal_nan=True)
    last = Series(at, np.array([5.0, 6.0, 8.0, 9.0]))
    assert np.array_equal(last.ago(1), [np.nan, 5, 6, 8], equal_nan=True)
    assert known({"x": counts.ago(1), "y": at})["y"].tolist() == [1, 3, 4]


def test_the_usual_is_that_of_the_same_hour_in_four_weeks():
    at = np.arange(5 * WEEK)
    counts = Series(at, (at // WEEK + 1.0) * (at % DAY == 7), absent=0)
    usual = counts.usual()
    assert np.isnan(usual[4 * WEEK - 1])
    assert usual[4 * WEEK + 7] == (1 + 2 + 3 + 4) / 4
    assert usual[4 * WEEK + 8] == 0
    assert counts.trend(1, 1)[4 * WEEK + 8] == (5 + 1) / (2.5 + 1)


def test_alike_are_the_last_four_days_of_the_same_kind_that_are_known():
    at = np.arange(5 * WEEK)
    day = at // DAY
    weekend = Series(at, (day % 7 >= 5).astype(float))
    counts = Series(at, day.astype(float), absent=0)
    monday, saturday = 4 * 7, 4 * 7 + 5
    assert counts.alike(weekend, 1)[monday * DAY] == np.mean([monday - back for back in (3, 4, 5, 6)])
    assert counts.alike(weekend, 1)[saturday * DAY] == np.mean([saturday - back for back in (6, 7, 13, 14)])
    tuesday = monday + 1
    assert counts.alike(weekend, 24)[tuesday * DAY] == np.mean([tuesday - back for back in (1, 4, 5, 6)])
    assert counts.alike(weekend, 25)[tuesday * DAY] == np.mean([tuesday - back for back in (4, 5, 6, 7)])


# What a caller knows of the hour itself: the calendar; a day ahead also the forecast of the weather.
CALENDAR = {"hr", "weekday", "mnth", "holiday", "workingday"}
WEATHER = {"weathersit", "temp", "hum", "windspeed"}


@pytest.mark.parametrize(("name", "horizon"), [("demand", 1), ("demand-day", 24)])
def test_demand_uses_nothing_that_is_known_later_than_its_horizon(name: str, horizon: int):
    found = recipe.find(name)
    made = found.generate(np.random.default_rng(0), 1_500)
    columns = {
        "dteday": np.array([float(datetime.date.fromisoformat(day).toordinal()) for day in made["dteday"]]),
        **{column: made[column].astype(float) for column in (*CALENDAR, *WEATHER, "cnt")},
    }
    at = columns["dteday"] * DAY + columns["hr"]
    before = found.preparation.prepare(columns)
    features = {feature.name for feature in found.features}
    assert set(before) == features | {"cnt"}
    rows = len(before["cnt"])
    # The prepared rows are the last ones, each after the other.
    hours = at[-rows:]
    chosen = rows // 2
    # Everything later than the horizon before the chosen hour changes: its own features must not.
    late = at > hours[chosen] - horizon
    later = {
        column: np.where(late & (column in (WEATHER | {"cnt"})), values * 3 + 7, values)
        for column, values in columns.items()
    }
    after = found.preparation.prepare(later)
    different = {name for name in features if after[name][chosen] != before[name][chosen]}
    assert different == (WEATHER if horizon > 1 else set())
    # A little more of the past, and the features know of it.
    late = at >= hours[chosen] - horizon
    known_then = {
        column: np.where(late & (column == "cnt"), values * 3 + 7, values)
        for column, values in columns.items()
    }
    after = found.preparation.prepare(known_then)
    different = {name for name in features if after[name][chosen] != before[name][chosen]}
    assert {f"cnt_{horizon}", "cnt_expected", "cnt_day", "trend_day"} <= different
