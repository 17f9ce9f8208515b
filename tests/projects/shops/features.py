"""What is known of a shop's day before it opens, in Spark's SQL."""

from collections.abc import Mapping

from pyspark.sql import DataFrame

KEY = "shop_day"
DAY = "day"
TARGET = "sold"
SLICES = ("town",)
BASELINE = "sold_7d"
FEATURES = {
    "town": "category",
    "size": "square metre",
    "offer": "flag",
    "sold_7d": "piece",
    "open_days_28d": "day",
    "town_sold_7d": "piece",
}

# Whole numbers are summed and a mean is one division, so both engines give the same bits.
QUERY = """
WITH daily AS (
    SELECT sales.*, town, size, DATEDIFF(CAST(day AS DATE), DATE '1970-01-01') AS number
    FROM sales JOIN shops USING (shop)
),
towns AS (
    SELECT town, number, SUM(sold) AS sold, COUNT(sold) AS shop_days
    FROM daily GROUP BY town, number
),
town_history AS (
    SELECT town, number,
        CAST(SUM(sold) OVER week AS DOUBLE) / CAST(SUM(shop_days) OVER week AS DOUBLE)
            AS town_sold_7d
    FROM towns
    WINDOW week AS (PARTITION BY town ORDER BY number RANGE BETWEEN 7 PRECEDING AND 1 PRECEDING)
)
SELECT
    CONCAT_WS('-', shop, CAST(CAST(day AS DATE) AS STRING)) AS shop_day,
    day, sold, town, size, offer,
    CAST(SUM(sold) OVER week AS DOUBLE) / CAST(COUNT(sold) OVER week AS DOUBLE) AS sold_7d,
    COUNT(sold) OVER month AS open_days_28d,
    town_sold_7d
FROM daily JOIN town_history USING (town, number)
WINDOW
    week AS (PARTITION BY shop ORDER BY number RANGE BETWEEN 7 PRECEDING AND 1 PRECEDING),
    month AS (PARTITION BY shop ORDER BY number RANGE BETWEEN 28 PRECEDING AND 1 PRECEDING)
"""


def features(tables: Mapping[str, DataFrame]) -> DataFrame:
    """One row per shop and day; TARGET is missing where the shop was closed."""
    for name in ("sales", "shops"):
        tables[name].createOrReplaceTempView(name)
    return tables["sales"].sparkSession.sql(QUERY)
