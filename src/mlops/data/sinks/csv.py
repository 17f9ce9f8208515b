"""Predictions as files: `location/name/day=2021-04-30/part.csv`, below any fsspec URL."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING

from mlops.data.sinks import files

if TYPE_CHECKING:
    import pyarrow as pa


def replace(location: str, name: str, day: dt.date, batches: pa.RecordBatchReader) -> None:
    """Write one CSV file a day; the folder's name has the day."""
    from pyarrow import csv

    files.write(location, name, day, batches, "csv", csv.CSVWriter)
