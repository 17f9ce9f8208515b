"""Predictions as files: `location/name/day=2021-04-30/part.parquet`, below any fsspec URL."""

from __future__ import annotations

import datetime as dt
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fsspec.implementations.local import LocalFileSystem

from mlops.base.errors import UserError, one_line
from mlops.base.files import alone, whole_file
from mlops.data.sinks import kept
from mlops.data.sources.files import opened

if TYPE_CHECKING:
    import pyarrow as pa


def replace(location: str, name: str, day: dt.date, batches: pa.RecordBatchReader) -> None:
    """Write one Parquet file a day; the folder's name has the day, as Hive and Spark do it."""
    import pyarrow.parquet as pq

    write(location, name, day, batches, "parquet", pq.ParquetWriter)


def write(
    location: str, name: str, day: dt.date, batches: pa.RecordBatchReader, ending: str, writer: Any
) -> None:
    """Write a day's file aside; it takes the place of the earlier one as a whole."""
    with kept(batches, day) as rows, tempfile.TemporaryDirectory() as aside:
        try:
            system, root = opened(location)
            folder = f"{root.rstrip('/')}/{name}/day={day}"
            system.makedirs(folder, exist_ok=True)
            target = f"{folder}/part.{ending}"
            if isinstance(system, LocalFileSystem):
                with alone(Path(folder)), whole_file(Path(target)) as partial:
                    _write(rows, partial, writer)
            else:
                _write(rows, Path(aside, "part"), writer)
                # A store shows an object when all of it has arrived.
                system.put_file(str(Path(aside, "part")), target, overwrite=True)
        # Each store has errors of its own.
        except Exception as error:
            reason = one_line(f"{type(error).__name__}: {error}")
            raise UserError(f"{location}: {name}: can't be written: {reason}") from None


def _write(rows: pa.RecordBatchReader, path: Path, writer: Any) -> None:
    """Without the column that the folder's name has: readers would find it twice."""
    import pyarrow as pa

    schema = pa.schema([field for field in rows.schema if field.name != "day"])
    with writer(path, schema) as file:
        for batch in rows:
            file.write_batch(batch.select(schema.names))
