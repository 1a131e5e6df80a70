"""Demand for rental bikes, with the schema of the UCI bike sharing data set: an hour ahead.

The published file: ``hour.csv`` of Hadi Fanaee-T, "Bike Sharing", UCI Machine Learning Repository, 2013.
"""

import datetime

import numpy as np

from model_export import cell
from model_export.history import DAY, WEEK, Series, by_hour, known
from model_export.recipe import Columns, Preparation, Quantity, Recipe, flag, number

_CALENDAR = (
    number("hr", "The hour of the day.", within=(0, 23)),
    number("weekday", "The day of the week; 0 is Sunday.", within=(0, 6)),
    number("mnth", "The month.", within=(1, 12)),
    flag("holiday", "Whether the day is a holiday."),
    flag("workingday", "Whether the day is neither at a weekend nor a holiday."),
)
_WEATHER = {
    "weathersit": "Weather, from 1, clear, to 4, heavy rain or snow",
    "temp": "Temperature: 0 is -8 °C, 1 is 39 °C",
    "hum": "Humidity: 1 is 100 %",
    "windspeed": "Wind speed: 1 is 67 km/h",
}


def generate(random: np.random.Generator, rows: int) -> Columns:
    """Make hours that look like the published ones: commuters' on working days, others' at noon, and weather.

    As there, hours without a rental are left out.
    """
    at = np.arange(rows)
    day, hr = at // DAY, at % DAY
    dates = [datetime.date(2011, 1, 1) + datetime.timedelta(int(each)) for each in day]
    weekday = (day + 6) % 7
    holiday = np.isin(day % 365, (0, 16, 51, 149, 184, 247, 282, 314, 327, 358))
    working = ~np.isin(weekday, (0, 6)) & ~holiday
    mood = np.convolve(random.normal(size=rows), 0.9 ** np.arange(48), "same")
    temp = 0.5 - 0.25 * np.cos(2 * np.pi * (day - 20) / 365) - 0.07 * np.cos(2 * np.pi * (hr - 3) / DAY)
    rain = np.convolve(random.random(rows) < 0.02, np.ones(5), "same") > 0
    weathersit = np.where(rain, 3, 1 + (random.random(rows) < 0.3))
    commuters = np.exp(-((hr - 8) ** 2) / 2) + 1.2 * np.exp(-((hr - 17.5) ** 2) / 4) + 0.25 * (hr > 6)
    others = np.exp(-((hr - 14) ** 2) / 18)
    mean = 260 * np.where(working, commuters, others) * (0.3 + temp) * np.where(rain, 0.45, 1)
    mean = mean * (1 + 0.2 * at / (365 * DAY)) * np.exp(0.06 * mood)
    counts = random.poisson(mean + 3)
    columns = {
        "dteday": np.array([each.isoformat() for each in dates]),
        "mnth": np.array([each.month for each in dates]),
        "hr": hr,
        "holiday": holiday.astype(int),
        "weekday": weekday,
        "workingday": working.astype(int),
        "weathersit": weathersit,
        "temp": (temp + random.normal(0, 0.03, rows)).clip(0, 1).round(2),
        "hum": (0.6 + 0.25 * rain + random.normal(0, 0.1, rows)).clip(0, 1).round(2),
        "windspeed": random.gamma(3, 0.06, rows).clip(0, 0.9).round(4),
        "cnt": counts,
    }
    return {name: values[counts > 0] for name, values in columns.items()}


def ahead(name: str, horizon: int) -> Recipe:
    """Return the recipe that predicts so many hours ahead, at most a day.

    An hour ahead it goes by the weather that was observed when the prediction is made; beyond that it takes a
    forecast.
    """
    lags = sorted({horizon, horizon + 1, horizon + 2, DAY, WEEK})
    forecast = horizon > 1
    words = "an hour" if horizon == 1 else f"{horizon} hours"

    def prepare(columns: Columns) -> Columns:
        at, columns = by_hour(columns, "dteday", "hr")
        counts = Series(at, columns["cnt"], absent=0)
        weather = {name: Series(at, columns[name]).ago(0 if forecast else horizon) for name in _WEATHER}
        return known(
            {feature.name: columns[feature.name] for feature in _CALENDAR}
            | weather
            | {f"cnt_{hours}": counts.ago(hours) for hours in lags}
            | {
                "cnt_usual": counts.usual(),
                "cnt_alike": counts.alike(Series(at, columns["workingday"]), horizon),
                "cnt_expected": counts.usual() * counts.trend(horizon, 3),
                "cnt_day": counts.mean(horizon, DAY),
                "trend_day": counts.trend(horizon, DAY),
                "cnt": columns["cnt"],
            }
        )

    return Recipe(
        name=name,
        description=f"Bikes that will be rented within an hour, {words} ahead.",
        purpose=(
            f"Planning asks, {words} before an hour begins, how many bikes will be rented in it, to bring "
            "bikes to where they will be needed. The interval says how far to trust the number."
        ),
        limits=(
            f"The horizon is {words}: nothing in a row may be known later than {words} before the hour. "
            + (
                "The weather is that of the hour itself, and so must come from a forecast. It was trained "
                "and tested on the weather as observed, as the data have no forecasts: with real ones, "
                "errors will be greater than this page says, and the more so the worse the forecast. "
                if forecast
                else "The weather is the one observed an hour before, and no forecast. "
            )
            + "The data are one city's in 2011 and 2012, in which demand grew: where it grows or falls "
            "otherwise, or bikes run out, watch the coverage of the intervals and train again."
        ),
        features=(
            *_CALENDAR,
            *(
                number(
                    column,
                    f"{text}; {'forecast for the hour' if forecast else 'observed an hour before'}.",
                )
                for column, text in _WEATHER.items()
            ),
            *(number(f"cnt_{hours}", f"Rentals {hours} hours before.") for hours in lags),
            number("cnt_usual", "Mean rentals in this hour of the last four weeks."),
            number(
                "cnt_alike",
                "Mean rentals in this hour of the last four days of the same workingday.",
            ),
            number(
                "cnt_expected",
                "cnt_usual times (mean + 1) / (usual mean + 1) of the last three hours known.",
            ),
            number("cnt_day", "Mean rentals in the last 24 hours known."),
            number("trend_day", "(mean + 1) / (usual mean + 1) of those 24 hours."),
        ),
        target=Quantity(("cnt",), unit="rentals an hour", least=0),
        unused=("instant", "season", "yr", "atemp", "casual", "registered"),
        split="time",
        preparation=Preparation(
            columns={"dteday": cell.date}
            | {feature.name: cell.reader(feature) for feature in _CALENDAR}
            | dict.fromkeys(_WEATHER, cell.number),
            prepare=prepare,
        ),
        forest={
            "n_estimators": 64,
            "max_features": 0.33,
            "min_samples_leaf": 5,
            "criterion": "squared_error",
        },
        generate=generate,
        generated_rows=5_000,
        at_stake="plans",
    )


RECIPE = ahead("demand", horizon=1)
