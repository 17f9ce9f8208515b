"""What is known of a row."""

from collections.abc import Mapping

from pyspark.sql import DataFrame

KEY = "sample"
TARGET = "diagnosis"
CLASSES = ("benign", "malignant")
FEATURES = {
    "mean_radius": "mm",
    "mean_texture": "grey",
    "mean_smoothness": "1",
    "worst_area": "mm2",
}
SLICES: tuple[str, ...] = ()
BASELINE = "worst_area"


def features(tables: Mapping[str, DataFrame]) -> DataFrame:
    """One row each."""
    return tables["samples"]
