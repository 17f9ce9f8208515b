"""A town's trams and buses in the first four months of 2023: made up, the same rows every time."""

import numpy as np
import pandas as pd
import pandera.pandas as pa
from pandera.typing import Series

LINES = ["blue", "green", "red", "ring"]
# Known only after the day of the trip.
DELAY = {"unit": "minute", "outcome": True}


class Trips(pa.DataFrameModel):
    """One row per trip in the timetable; one that was cancelled has no `delay`."""

    day: Series[pa.DateTime]
    number: Series[int] = pa.Field(ge=0)
    line: Series[str] = pa.Field(metadata={"references": "lines.line"})
    hour: Series[int] = pa.Field(ge=0, le=23)
    vehicle: Series[str] = pa.Field(isin=["long", "short", "old"], nullable=True)
    delay: Series[pd.Int64Dtype] = pa.Field(ge=-10, le=240, nullable=True, metadata=DELAY)

    class Config:
        strict = True
        coerce = True
        unique = ["day", "number"]
        metadata = {"day": "day"}


class Weather(pa.DataFrameModel):
    """One row per day; on some the thermometer was broken."""

    day: Series[pa.DateTime]
    temp: Series[float] = pa.Field(ge=-60, le=60, nullable=True, metadata={"unit": "degree C"})
    rain: Series[float] = pa.Field(ge=0, le=500, metadata={"unit": "mm"})

    class Config:
        strict = True
        coerce = True
        unique = ["day"]
        metadata = {"day": "day"}


class Lines(pa.DataFrameModel):
    """One row per line."""

    line: Series[str]
    kind: Series[str] = pa.Field(isin=["tram", "bus"])
    stops: Series[int] = pa.Field(ge=2)
    km: Series[float] = pa.Field(gt=0)

    class Config:
        strict = True
        coerce = True
        unique = ["line"]


TABLES: dict[str, type[pa.DataFrameModel]] = {"trips": Trips, "weather": Weather, "lines": Lines}
TRIPS_A_DAY = 12


def csv() -> dict[str, pd.DataFrame]:
    """The raw tables: 1,440 trips from January to April, twelve a day."""
    # The old generator's numbers are the same with every version of NumPy.
    random = np.random.RandomState(11)
    days = pd.date_range("2023-01-01", "2023-04-30")
    rain = np.where(random.uniform(size=len(days)) < 0.4, random.gamma(2.0, 4.0, len(days)), 0.0)
    temp = 4 + np.arange(len(days)) / 10 + random.normal(0, 3, len(days))
    weather = pd.DataFrame({"day": days, "temp": temp.round(1), "rain": rain.round(1)})
    weather.loc[random.uniform(size=len(days)) < 0.05, "temp"] = np.nan
    kinds, stops = ["tram", "tram", "bus", "bus"], [14, 18, 22, 31]
    km = [6.5, 8.2, 10.4, 15.9]
    lines = pd.DataFrame({"line": LINES, "kind": kinds, "stops": stops, "km": km})
    return {"trips": _trips(weather, random), "weather": weather, "lines": lines}


def _trips(weather: pd.DataFrame, random: np.random.RandomState) -> pd.DataFrame:
    """Trips that rush hours, rain, long lines and old vehicles make late."""
    rows = len(weather) * TRIPS_A_DAY
    line = random.randint(len(LINES), size=rows)
    hour = random.randint(5, 23, size=rows)
    vehicle = random.choice(["long", "short", "old"], size=rows, p=[0.5, 0.3, 0.2])
    rush = np.isin(hour, [7, 8, 16, 17, 18])
    rain = np.repeat(weather["rain"].to_numpy(), TRIPS_A_DAY)
    strain = 1.7 * rush + 0.11 * rain + 0.7 * line + 1.1 * (vehicle == "old") - 3.4
    late = random.uniform(size=rows) < 1 / (1 + np.exp(-strain))
    delay = np.where(late, 6 + random.poisson(8, rows), random.randint(-2, 6, size=rows))
    columns = {
        "day": np.repeat(weather["day"].to_numpy(), TRIPS_A_DAY),
        "number": np.tile(np.arange(TRIPS_A_DAY), len(weather)),
        "line": np.array(LINES)[line],
        "hour": hour,
        "vehicle": vehicle,
        "delay": pd.array(delay, "Int64"),
    }
    trips = pd.DataFrame(columns)
    trips.loc[random.uniform(size=rows) < 0.04, "vehicle"] = None
    trips.loc[random.uniform(size=rows) < 0.02, "delay"] = pd.NA
    return trips
