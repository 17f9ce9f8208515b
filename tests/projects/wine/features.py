"""What a taster knows of a wine."""

from collections.abc import Mapping

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

KEY = "wine"
DAY = "day"
TARGET = "grower"
SLICES = ("shade",)
BASELINE = "alcohol"
FEATURES = {
    "shade": "category",
    "depth": "1 to 3",
    "alcohol": "percent",
    "malic_acid": "g/l",
    "hue": "ratio",
    "acid_per_alcohol": "g/l per percent",
}


def features(tables: Mapping[str, DataFrame]) -> DataFrame:
    """One row per wine."""
    ratio = F.col("malic_acid") / F.col("alcohol")
    return tables["wines"].join(tables["shades"], "shade").withColumn("acid_per_alcohol", ratio)
