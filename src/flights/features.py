"""Features of a flight that are known before it departs: one table of numbers and categories.

Ordinary PySpark, which Spark runs as it is and DuckDB runs through SQLFrame. Both must give the
same bits, and every run the same bits, in whatever order rows arrive. Therefore:

- only whole numbers are summed, and a rate is one division at the very end;
- a window is a range of whole days, hours or minutes, so ties cannot matter;
- instants are UTC without a zone and become whole days and hours at once.

Two temptations are left out. Month and day of month can only memorise the one year there is. An
aircraft's earlier legs of the day look strong, but the tail number on record is the one that flew:
turnarounds too short to be planned are late up to nine times in ten, which smells of aircraft
assigned after the delay was known. So of aircraft only those of earlier days count.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F


@dataclass(frozen=True)
class Past:
    """How flights that share `keys` did: late share and mean delay, over how many days each."""

    keys: tuple[str, ...]
    late: tuple[int, ...] = ()
    delay: tuple[int, ...] = ()


PASTS = {
    "airport": Past(("origin",), late=(3, 7), delay=(1,)),
    "hour": Past(("origin", "hour"), late=(7, 28)),
    "carrier": Past(("origin", "carrier"), late=(7,), delay=(1,)),
    "dest": Past(("dest",), late=(28,), delay=(1,)),
    "number": Past(("carrier", "flight"), late=(28,), delay=(1, 7, 28)),
}

KEY = "flight_id"
DAY = "date"
TARGET = "late"
SLICES = ("carrier", "origin", "month", "hour_band")
BASELINE = "hour_late_28d"
FEATURES: dict[str, str] = {
    "carrier": "category",
    "origin": "category",
    "dest": "category",
    "weekday": "day, 1 is Sunday",
    "departure_minute": "minute of the local day",
    "arrival_minute": "minute of the local day",
    "block_minutes": "minute",
    "distance": "mile",
    "aircraft_age_28d": "year",
    "seats_28d": "seat",
    "temp": "degree Fahrenheit",
    "dewp": "degree Fahrenheit",
    "humid": "percent",
    "wind_speed": "mph",
    "precip": "inch",
    "pressure": "millibar",
    "visib": "mile",
    "most_humid_6h": "percent",
    "most_wind_speed_6h": "mph",
    "most_precip_6h": "inch",
    "least_pressure_6h": "millibar",
    "least_visib_6h": "mile",
    "departures_3h_before": "flight",
    "departures_so_far": "flight",
    "departures_today": "flight",
    "carrier_departures_today": "flight",
    **{f"{name}_late_{days}d": "share" for name, past in PASTS.items() for days in past.late},
    **{f"{name}_delay_{days}d": "minute" for name, past in PASTS.items() for days in past.delay},
}

LATE_AFTER_MINUTES = 15

# One stranded aircraft says little of the next day, and a flight never leaves the timetable.
LEAST_DELAY_MINUTES, MOST_DELAY_MINUTES = -30, 180

# Flights seldom seen are pulled towards the usual rate, one late in four.
PRIOR_FLIGHTS, PRIOR_LATE = 8, 2

NEW_YORK_UTC_OFFSET_HOURS = -5
DAY_MINUTES = 24 * 60


def features(tables: Mapping[str, DataFrame]) -> DataFrame:
    """One row per scheduled flight, in no order: KEY, DAY, TARGET, then SLICES and FEATURES.

    TARGET is missing for flights that never arrived; they still count as traffic and as history.
    """
    flights = scheduled(tables["flights"])
    table = (
        with_block_minutes(flights, tables["airports"])
        .join(weather(tables["weather"]), ["origin", "utc_hour"], "left")
        .join(congestion(flights), ["origin", "day", "departure_minute"], "left")
        .join(carrier_load(flights), ["origin", "carrier", "day"], "left")
    )
    number = [*PASTS["number"].keys, "day"]
    table = table.join(usual_aircraft(flights, tables["planes"]), number, "left")
    for name, past in PASTS.items():
        table = table.join(history(flights, name, past), [*past.keys, "day"], "left")
    others = [name for name in SLICES if name not in FEATURES]
    return table.select(KEY, DAY, TARGET, *others, *(feature(name) for name in FEATURES))


def feature(name: str) -> Column:
    return F.col(name) if FEATURES[name] == "category" else number(F.col(name)).alias(name)


def scheduled(flights: DataFrame) -> DataFrame:
    """One row per flight: what the timetable says, and how the flight turned out."""
    date = F.col("date").cast("date").cast("string")
    late = (F.col("arr_delay") > LATE_AFTER_MINUTES).cast("int")
    arrivals = F.count("arr_delay").over(Window.partitionBy("date"))
    return flights.select(
        F.concat_ws("-", date, "carrier", F.col("flight").cast("string"), "origin").alias(KEY),
        *(F.col(name) for name in (DAY, "carrier", "flight", "tailnum", "origin", "dest")),
        late.alias(TARGET),
        # On a day without any arrival nothing is known yet.
        F.when(arrivals > 0, delay_minutes()).alias("delay"),
        day_number("date").alias("day"),
        utc_hour().alias("utc_hour"),
        whole("hour").alias("hour"),
        hour_band().alias("hour_band"),
        F.year("date").alias("year"),
        F.month("date").cast("int").alias("month"),
        F.dayofweek("date").alias("weekday"),
        minute_of_day("sched_dep_time").alias("departure_minute"),
        minute_of_day("sched_arr_time").alias("arrival_minute"),
        whole("distance").alias("distance"),
    )


def with_block_minutes(flights: DataFrame, airports: DataFrame) -> DataFrame:
    """Add the minutes planned from gate to gate; missing where the time zone is not known."""
    zones = airports.select(F.col("faa").alias("dest"), whole("tz").alias("tz"))
    clocks = F.col("arrival_minute") - F.col("departure_minute")
    westward = (F.col("tz") - NEW_YORK_UTC_OFFSET_HOURS) * 60
    # Flights that arrive after midnight; two days keep the dividend positive on every engine.
    minutes = (clocks - westward + 2 * DAY_MINUTES) % DAY_MINUTES
    return flights.join(zones, "dest", "left").withColumn("block_minutes", minutes)


def usual_aircraft(flights: DataFrame, planes: DataFrame) -> DataFrame:
    """One row per flight number and day: seats and age in years of its aircraft of four weeks.

    Missing where none of them is registered.
    """
    register = planes.select("tailnum", F.col("year").alias("built"), whole("seats").alias("seats"))
    age = whole("year") - whole("built")
    keys = PASTS["number"].keys
    flown = flights.join(register, "tailnum", "left").withColumn("age", age)
    daily = flown.groupBy(*keys, "day").agg(
        *(F.sum(name).alias(name) for name in ("seats", "age")),
        *(F.count(name).alias(f"{name}_known") for name in ("seats", "age")),
    )
    before = Window.partitionBy(*keys).orderBy("day").rangeBetween(-28, -1)

    def mean(name: str) -> Column:
        known = F.sum(f"{name}_known").over(before)
        return F.when(known > 0, number(F.sum(name).over(before)) / number(known))

    return daily.select(
        *(*keys, "day"), mean("age").alias("aircraft_age_28d"), mean("seats").alias("seats_28d")
    )


def weather(reports: DataFrame) -> DataFrame:
    """One row per airport and hour: that hour, and the worst of the six hours before it.

    The hour of departure is an observation that stands in for the forecast of it.
    """
    now = ("temp", "dewp", "humid", "wind_speed", "precip", "pressure", "visib")
    hours = reports.select("origin", utc_hour().alias("utc_hour"), *now)
    before = Window.partitionBy("origin").orderBy("utc_hour").rangeBetween(-6, -1)
    return hours.select(
        *("origin", "utc_hour", *now),
        *(F.max(x).over(before).alias(f"most_{x}_6h") for x in ("humid", "wind_speed", "precip")),
        *(F.min(x).over(before).alias(f"least_{x}_6h") for x in ("pressure", "visib")),
    )


def congestion(flights: DataFrame) -> DataFrame:
    """One row per airport, day and minute of departure: how many departures are planned nearby."""
    minutes = flights.groupBy("origin", "day", "departure_minute").agg(F.count("*").alias("n"))
    today = Window.partitionBy("origin", "day")
    clock = today.orderBy("departure_minute")

    def departures_before(minutes: int) -> Column:
        return F.coalesce(F.sum("n").over(clock.rangeBetween(-minutes, -1)), F.lit(0))

    return minutes.select(
        *("origin", "day", "departure_minute"),
        departures_before(180).alias("departures_3h_before"),
        departures_before(DAY_MINUTES).alias("departures_so_far"),
        F.sum("n").over(today).alias("departures_today"),
    )


def carrier_load(flights: DataFrame) -> DataFrame:
    """One row per airport, carrier and day: how much the carrier plans to fly from there."""
    departures = F.count("*").alias("carrier_departures_today")
    return flights.groupBy("origin", "carrier", "day").agg(departures)


def history(flights: DataFrame, name: str, past: Past) -> DataFrame:
    """One row per key of `past` and day flown: late share and mean delay of the days before."""
    daily = flights.groupBy(*past.keys, "day").agg(
        F.count("delay").alias("planned"),
        F.count(TARGET).alias("arrived"),
        F.sum(whole(TARGET)).alias("late"),
        F.sum("delay").alias("delay"),
    )
    order = Window.partitionBy(*past.keys).orderBy("day")

    def total(column: str, days: int) -> Column:
        before = F.sum(column).over(order.rangeBetween(-days, -1))
        return F.coalesce(before.cast("bigint"), F.lit(0).cast("bigint"))

    def late_share(days: int) -> Column:
        late, arrived = total("late", days) + PRIOR_LATE, total("arrived", days) + PRIOR_FLIGHTS
        return number(late) / number(arrived)

    def mean_delay(days: int) -> Column:
        return number(total("delay", days)) / number(total("planned", days) + PRIOR_FLIGHTS)

    return daily.select(
        *(*past.keys, "day"),
        *(late_share(days).alias(f"{name}_late_{days}d") for days in past.late),
        *(mean_delay(days).alias(f"{name}_delay_{days}d") for days in past.delay),
    )


def delay_minutes() -> Column:
    """Whole minutes, within bounds; a flight that never arrived counts as the worst delay."""
    delay = whole("arr_delay")
    return (
        F.when(delay.isNull() | (delay > MOST_DELAY_MINUTES), MOST_DELAY_MINUTES)
        .when(delay < LEAST_DELAY_MINUTES, LEAST_DELAY_MINUTES)
        .otherwise(delay)
        .cast("bigint")
    )


def hour_band() -> Column:
    hour = F.col("hour")
    return (
        F.when(hour < 9, "early")
        .when(hour < 13, "morning")
        .when(hour < 17, "afternoon")
        .otherwise("evening")
    )


def minute_of_day(clock: str) -> Column:
    """Whole minutes since midnight of a clock time such as 517 for 05:17."""
    hours = F.floor(F.col(clock) / 100).cast("bigint")
    return whole(clock) - hours * 40


def utc_hour() -> Column:
    """Hours since 1970, so that consecutive hours differ by one across midnight and months."""
    return day_number("time_hour") * 24 + F.hour("time_hour").cast("bigint")


def day_number(instant: str) -> Column:
    """Days since 1970."""
    epoch = F.lit("1970-01-01").cast("date")
    return F.datediff(F.col(instant).cast("date"), epoch).cast("bigint")


def whole(name: str) -> Column:
    return F.col(name).cast("bigint")


def number(column: Column) -> Column:
    return column.cast("double")
