"""The formats that rows are read from: each a stream of batches, however large the file."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pyarrow as pa

from mlops.base.errors import UserError, nearest

# Rows decoded at a time, and bytes of a file read at a time.
BATCH = 2**16
BLOCK = 2**22
BUFFER = 2**20


@dataclass(frozen=True)
class Place:
    """A file, or a table of a database's file. Below `root`, folders may be called `key=value`."""

    path: Path
    table: str = ""
    root: Path | None = None

    @property
    def label(self) -> str:
        return f"{self.path}:{self.table}" if self.table else str(self.path)

    @property
    def keys(self) -> dict[str, str]:
        """The values that the names of folders give."""
        folders = self.path.relative_to(self.root).parts[:-1] if self.root else ()
        return dict(name.split("=", 1) for name in folders if "=" in name)

    def identity(self) -> dict[str, Any]:
        found = self.path.stat()
        return {
            "place": str(self.path.resolve()), "table": self.table,
            "bytes": found.st_size, "changed": found.st_mtime_ns,
        }  # fmt: skip


@dataclass(frozen=True)
class Lost:
    """A row that could not be taken apart: its number in the file, how many whole ones come before
    it, and why."""

    row: int
    before: int
    reason: str


@contextmanager
def readable(place: Place) -> Iterator[None]:
    """Say in one line that a place can't be read."""
    try:
        yield
    except (pa.ArrowException, UnicodeDecodeError, csv.Error) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{place.label}: can't be read: {reason}") from None
    except OSError as error:
        # Arrow says "OSError" of a file that is cut short, and gives no number.
        if error.errno:
            raise
        raise UserError(f"{place.label}: can't be read: {' '.join(str(error).split())}") from None


class Parquet:
    """Parquet files, with the columns that the names of their folders add."""

    endings: ClassVar = (".parquet",)
    text = False

    def schema(self, place: Place) -> pa.Schema:
        import pyarrow.parquet as pq

        with readable(place):
            schema = pq.read_schema(place.path)
        for name in place.keys:
            if name not in schema.names:
                schema = schema.append(pa.field(name, pa.string()))
        return schema

    def rows(self, place: Place) -> int | None:
        import pyarrow.parquet as pq

        with readable(place):
            return int(pq.read_metadata(place.path).num_rows)

    def read(
        self, place: Place, start: int, lost: list[Lost]
    ) -> tuple[int, Iterator[pa.RecordBatch]]:
        import pyarrow.parquet as pq

        with readable(place):
            # Buffered, or a whole column of a group of rows would be in memory at once.
            file = pq.ParquetFile(place.path, buffer_size=BUFFER)
        group, first = 0, 0
        counts = [file.metadata.row_group(n).num_rows for n in range(file.num_row_groups)]
        while group < len(counts) and first + counts[group] <= start:
            first, group = first + counts[group], group + 1
        groups = list(range(group, len(counts)))
        return first, self._batches(file, groups, place)

    def _batches(self, file: Any, groups: list[int], place: Place) -> Iterator[pa.RecordBatch]:
        with file, readable(place):
            for batch in file.iter_batches(batch_size=BATCH, row_groups=groups):
                yield _with_keys(batch, place.keys)


def _with_keys(batch: pa.RecordBatch, keys: dict[str, str]) -> pa.RecordBatch:
    for name, value in keys.items():
        if name not in batch.schema.names:
            batch = batch.append_column(name, pa.repeat(value, len(batch)))
    return batch


class Csv:
    """CSV files with a header, compressed or not; every column is text, kept as it is."""

    endings: ClassVar = (".csv", ".csv.gz")
    text = True

    def schema(self, place: Place) -> pa.Schema:
        with readable(place), pa.input_stream(place.path, compression="detect") as stream:
            lines = io.TextIOWrapper(stream, encoding="utf-8-sig", newline="")
            header = next(csv.reader(lines), [])
        if not header:
            raise UserError(f"{place.label}: found nothing, expected a header")
        return pa.schema([pa.field(name, pa.string()) for name in header])

    def rows(self, place: Place) -> int | None:
        return None

    def read(
        self, place: Place, start: int, lost: list[Lost]
    ) -> tuple[int, Iterator[pa.RecordBatch]]:
        return 0, self._batches(place, lost)

    def _batches(self, place: Place, lost: list[Lost]) -> Iterator[pa.RecordBatch]:
        from pyarrow import csv as arrow

        def skip(row: Any) -> str:
            number = row.number - 2  # Counted from 1, and the header too.
            said = f"found {row.actual_columns} fields, expected {row.expected_columns}"
            lost.append(Lost(number, number - len(lost), said))
            return "skip"

        schema = self.schema(place)
        with readable(place), pa.input_stream(place.path, compression="detect") as stream:
            yield from arrow.open_csv(
                stream,
                read_options=arrow.ReadOptions(block_size=BLOCK, use_threads=False),
                parse_options=arrow.ParseOptions(newlines_in_values=True, invalid_row_handler=skip),
                convert_options=arrow.ConvertOptions(
                    column_types={field.name: field.type for field in schema}
                ),
            )


class Duck:
    """A table, or a view, of a DuckDB database's file."""

    endings: ClassVar = (".duckdb", ".db")
    text = False

    def schema(self, place: Place) -> pa.Schema:
        with self._connected(place) as connection:
            _require_table(connection, place)
            return connection.execute(f"from {_quoted(place)} limit 0").to_arrow_reader().schema

    def rows(self, place: Place) -> int | None:
        with self._connected(place) as connection:
            counted = connection.execute(f"select count(*) from {_quoted(place)}").fetchone()
            return int(counted[0])

    def read(
        self, place: Place, start: int, lost: list[Lost]
    ) -> tuple[int, Iterator[pa.RecordBatch]]:
        return start, self._batches(place, start)

    def _batches(self, place: Place, start: int) -> Iterator[pa.RecordBatch]:
        with self._connected(place) as connection:
            said = f"from {_quoted(place)} offset {start}"
            yield from connection.execute(said).to_arrow_reader(BATCH)

    @contextmanager
    def _connected(self, place: Place) -> Iterator[Any]:
        import duckdb

        if not place.table:
            raise UserError(f"{place.label}: found a database, expected {place.label}:TABLE")
        try:
            with duckdb.connect(str(place.path), read_only=True) as connection:
                yield connection
        except duckdb.Error as error:
            reason = " ".join(str(error).split())
            raise UserError(f"{place.label}: can't be read: {reason}") from None


def _quoted(place: Place) -> str:
    parts = (part.replace('"', '""') for part in place.table.split("."))
    return ".".join(f'"{part}"' for part in parts)


def _require_table(connection: Any, place: Place) -> None:
    """Raise UserError for a view, whose rows may come in another order each time."""
    schema, _, name = place.table.rpartition(".")
    rows = connection.execute(
        "select table_name, table_type from information_schema.tables where table_schema = ?",
        [schema or "main"],
    ).fetchall()
    kinds = dict(rows)
    if name not in kinds:
        raise UserError(f"{place.label}: found no table {name!r}{nearest(name, kinds)}")
    if kinds[name] == "VIEW":
        raise UserError(f"{place.label}: found a view, expected a table")


KINDS: tuple[Parquet | Csv | Duck, ...] = (Parquet(), Csv(), Duck())
