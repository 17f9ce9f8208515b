"""What is known of a row."""

from collections.abc import Mapping

from pyspark.sql import DataFrame

KEY = "flower"
TARGET = "species"
FEATURES = {"sepal_length": "cm", "sepal_width": "cm", "petal_length": "cm", "petal_width": "cm"}
SLICES: tuple[str, ...] = ()
BASELINE = "petal_length"


def features(tables: Mapping[str, DataFrame]) -> DataFrame:
    """One row each."""
    return tables["flowers"]
