"""What is known of a trip before it starts."""

from collections.abc import Mapping

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

KEY = "trip"
DAY = "day"
TARGET = "late"
SLICES = ("line", "month", "hour_band")
BASELINE = "line_late_28d"
FEATURES = {
    "line": "category",
    "kind": "category",
    "vehicle": "category",
    "weekday": "day, 1 is Sunday",
    "hour": "hour of the local day",
    "stops": "stop",
    "km": "kilometre",
    "temp": "degree Celsius",
    "rain": "mm",
    "most_rain_3d": "mm",
    "trips_today": "trip",
    "line_late_7d": "share",
    "line_late_28d": "share",
}

LATE_AFTER_MINUTES = 5
# A line seldom seen is pulled towards the usual share, one late in four.
PRIOR_TRIPS, PRIOR_LATE = 8, 2


def features(tables: Mapping[str, DataFrame]) -> DataFrame:
    """One row per trip; TARGET is missing where the trip was cancelled."""
    trips = timetable(tables["trips"])
    table = (
        trips.join(tables["lines"], "line")
        .join(weather(tables["weather"]), "day_number", "left")
        .join(history(trips), ["line", "day_number"], "left")
    )
    others = [name for name in SLICES if name not in FEATURES]
    return table.select(KEY, DAY, TARGET, *others, *(feature(name) for name in FEATURES))


def feature(name: str) -> Column:
    return F.col(name) if FEATURES[name] == "category" else F.col(name).cast("double").alias(name)


def timetable(trips: DataFrame) -> DataFrame:
    """One row per trip: when and how it runs, and whether it was late."""
    date, hour = F.col("day").cast("date"), F.col("hour")
    return trips.select(
        F.concat_ws("-", date.cast("string"), F.col("number").cast("string")).alias(KEY),
        *("day", "line", "hour", "vehicle"),
        day_number().alias("day_number"),
        (F.col("delay") > LATE_AFTER_MINUTES).cast("int").alias(TARGET),
        F.when(hour < 10, "morning")
        .when(hour < 16, "midday")
        .otherwise("evening")
        .alias("hour_band"),
        F.month(date).cast("int").alias("month"),
        F.dayofweek(date).alias("weekday"),
    )


def weather(reports: DataFrame) -> DataFrame:
    """One row per day: its own weather, and the most rain of the three days before."""
    days = reports.select(day_number().alias("day_number"), "temp", "rain")
    before = Window.orderBy("day_number").rangeBetween(-3, -1)
    return days.withColumn("most_rain_3d", F.max("rain").over(before))


def history(trips: DataFrame) -> DataFrame:
    """One row per line and day: its trips of the day, and how late it was on the days before.

    Only whole numbers are summed, and a share is one division: the same bits on every engine.
    """
    daily = trips.groupBy("line", "day_number").agg(
        F.count("*").alias("trips_today"),
        F.count(TARGET).alias("arrived"),
        F.sum(F.col(TARGET).cast("bigint")).alias("late_trips"),
    )
    order = Window.partitionBy("line").orderBy("day_number")

    def total(column: str, days: int) -> Column:
        before = F.sum(column).over(order.rangeBetween(-days, -1))
        return F.coalesce(before.cast("bigint"), F.lit(0).cast("bigint"))

    def late_share(days: int) -> Column:
        late, arrived = total("late_trips", days) + PRIOR_LATE, total("arrived", days) + PRIOR_TRIPS
        return late.cast("double") / arrived.cast("double")

    return daily.select(
        *("line", "day_number", "trips_today"),
        *(late_share(days).alias(f"line_late_{days}d") for days in (7, 28)),
    )


def day_number() -> Column:
    """Days since 1970."""
    epoch = F.lit("1970-01-01").cast("date")
    return F.datediff(F.col("day").cast("date"), epoch).cast("bigint")
