"""Predictions in a Delta table, partitioned by day, written by delta-rs without Spark."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING

from mlops.base.errors import UserError
from mlops.data.sinks import kept
from mlops.data.sources.delta import address, explain, options

if TYPE_CHECKING:
    import pyarrow as pa


def replace(location: str, name: str, day: dt.date, batches: pa.RecordBatchReader) -> None:
    """Replace the day in one commit of the table `location/name`; the first write creates it.

    Of two that write the same day at once the later one is refused.
    """
    from deltalake import write_deltalake
    from deltalake.exceptions import DeltaError

    place = address(location, name)
    with kept(batches, day) as rows:
        try:
            write_deltalake(
                place, rows, mode="overwrite", predicate=f"day = '{day}'",
                partition_by=["day"], storage_options=options(),
            )  # fmt: skip
        except (DeltaError, OSError) as error:
            raise UserError(f"{place}: can't be written: {explain(error)}") from None
