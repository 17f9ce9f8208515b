"""What is known of a patient on the first day."""

from collections.abc import Mapping

from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

KEY = "patient"
DAY = "day"
TARGET = "progression"
SLICES = ("sex",)
BASELINE = "bmi"
FEATURES = {
    "sex": "category",
    "age": "year",
    "bmi": "kg/m2",
    "bp": "mmHg",
    "s5": "log mg/dl",
    "patients_before": "patient",
}


def features(tables: Mapping[str, DataFrame]) -> DataFrame:
    """One row per patient."""
    before = Window.orderBy("patient").rowsBetween(Window.unboundedPreceding, -1)
    return tables["patients"].withColumn("patients_before", F.count("*").over(before))
