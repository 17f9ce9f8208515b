"""Predictions in a table that a Spark session knows, such as `catalog.schema.table`."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING

from mlops.data.sinks import kept
from mlops.data.sources.spark import address, explained, is_delta, quoted, started

if TYPE_CHECKING:
    import pyarrow as pa


def replace(location: str, name: str, day: dt.date, batches: pa.RecordBatchReader) -> None:
    """Replace the day's partition, in one commit where it is Delta; the first write creates it.

    The driver holds one day. Other tables than Delta's are moved file by file: a process that is
    killed in that moment leaves the day without rows, or with some.
    """
    from pyspark.sql import functions as F

    place = address(location, name)
    with kept(batches, day) as rows, explained(location, name):
        session = started()
        frame = session.createDataFrame(rows.read_all())
        frame.limit(0).write.partitionBy("day").saveAsTable(place, mode="ignore")
        if is_delta(session, place):
            frame.writeTo(place).overwrite(F.col("day") == F.lit(day))
            return
        names = ", ".join(quoted(column) for column in frame.columns if column != "day")
        frame.createOrReplaceTempView("mlops_predictions")
        session.sql(
            f"INSERT OVERWRITE TABLE {place} PARTITION (day = DATE '{day}') ({names}) "
            f"SELECT {names} FROM mlops_predictions"
        )
