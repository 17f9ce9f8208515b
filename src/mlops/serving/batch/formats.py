"""The formats that rows are read from, each as a stream of batches."""

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
class File:
    """A file, or a table of a database's file. Folders below `root` may be named `key=value`."""

    path: Path
    table: str = ""
    root: Path | None = None

    @property
    def label(self) -> str:
        return f"{self.path}:{self.table}" if self.table else str(self.path)

    @property
    def keys(self) -> dict[str, str]:
        """The columns that the names of folders give."""
        folders = self.path.relative_to(self.root).parts[:-1] if self.root else ()
        return dict(name.split("=", 1) for name in folders if "=" in name)

    def identity(self) -> dict[str, Any]:
        status = self.path.stat()
        return {
            "place": str(self.path.resolve()), "table": self.table,
            "bytes": status.st_size, "changed": status.st_mtime_ns,
        }  # fmt: skip


@dataclass(frozen=True)
class Malformed:
    """A row that can't be parsed: its number in the file, the number of parsed rows before it, and
    the reason."""

    row: int
    before: int
    reason: str


@contextmanager
def readable(file: File) -> Iterator[None]:
    """Raise UserError where a file can't be read."""
    try:
        yield
    except (pa.ArrowException, UnicodeDecodeError, csv.Error) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{file.label}: can't be read: {reason}") from None
    except OSError as error:
        # Arrow says "OSError" of a file that is cut short, and gives no number.
        if error.errno:
            raise
        raise UserError(f"{file.label}: can't be read: {' '.join(str(error).split())}") from None


class Parquet:
    """Parquet files, with the columns that the names of their folders add."""

    endings: ClassVar = (".parquet",)
    text = False

    def schema(self, file: File) -> pa.Schema:
        import pyarrow.parquet as pq

        with readable(file):
            schema = pq.read_schema(file.path)
        for name in file.keys:
            if name not in schema.names:
                schema = schema.append(pa.field(name, pa.string()))
        return schema

    def rows(self, file: File) -> int | None:
        import pyarrow.parquet as pq

        with readable(file):
            return int(pq.read_metadata(file.path).num_rows)

    def read(
        self, file: File, start: int, malformed: list[Malformed]
    ) -> tuple[int, Iterator[pa.RecordBatch]]:
        import pyarrow.parquet as pq

        with readable(file):
            # Without a buffer, a whole column of a row group would be in memory at once.
            reader = pq.ParquetFile(file.path, buffer_size=BUFFER)
        group, first = 0, 0
        counts = [reader.metadata.row_group(n).num_rows for n in range(reader.num_row_groups)]
        while group < len(counts) and first + counts[group] <= start:
            first, group = first + counts[group], group + 1
        groups = list(range(group, len(counts)))
        return first, self._batches(reader, groups, file)

    def _batches(self, reader: Any, groups: list[int], file: File) -> Iterator[pa.RecordBatch]:
        with reader, readable(file):
            for batch in reader.iter_batches(batch_size=BATCH, row_groups=groups):
                yield _with_keys(batch, file.keys)


def _with_keys(batch: pa.RecordBatch, keys: dict[str, str]) -> pa.RecordBatch:
    for name, value in keys.items():
        if name not in batch.schema.names:
            batch = batch.append_column(name, pa.repeat(value, len(batch)))
    return batch


class Csv:
    """CSV files with a header, compressed or not; every column is text, kept as it is."""

    endings: ClassVar = (".csv", ".csv.gz")
    text = True

    def schema(self, file: File) -> pa.Schema:
        with readable(file), pa.input_stream(file.path, compression="detect") as stream:
            lines = io.TextIOWrapper(stream, encoding="utf-8-sig", newline="")
            header = next(csv.reader(lines), [])
        if not header:
            raise UserError(f"{file.label}: found nothing, expected a header")
        return pa.schema([pa.field(name, pa.string()) for name in header])

    def rows(self, file: File) -> int | None:
        return None

    def read(
        self, file: File, start: int, malformed: list[Malformed]
    ) -> tuple[int, Iterator[pa.RecordBatch]]:
        return 0, self._batches(file, malformed)

    def _batches(self, file: File, malformed: list[Malformed]) -> Iterator[pa.RecordBatch]:
        from pyarrow import csv as arrow

        def skip(row: Any) -> str:
            number = row.number - 2  # Counted from 1, and the header too.
            reason = f"found {row.actual_columns} fields, expected {row.expected_columns}"
            malformed.append(Malformed(number, number - len(malformed), reason))
            return "skip"

        schema = self.schema(file)
        with readable(file), pa.input_stream(file.path, compression="detect") as stream:
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

    def schema(self, file: File) -> pa.Schema:
        with self._connected(file) as connection:
            _require_table(connection, file)
            return connection.execute(f"from {_quoted(file)} limit 0").to_arrow_reader().schema

    def rows(self, file: File) -> int | None:
        with self._connected(file) as connection:
            counted = connection.execute(f"select count(*) from {_quoted(file)}").fetchone()
            return int(counted[0])

    def read(
        self, file: File, start: int, malformed: list[Malformed]
    ) -> tuple[int, Iterator[pa.RecordBatch]]:
        return start, self._batches(file, start)

    def _batches(self, file: File, start: int) -> Iterator[pa.RecordBatch]:
        with self._connected(file) as connection:
            query = f"from {_quoted(file)} offset {start}"
            yield from connection.execute(query).to_arrow_reader(BATCH)

    @contextmanager
    def _connected(self, file: File) -> Iterator[Any]:
        import duckdb

        if not file.table:
            raise UserError(f"{file.label}: found a database, expected {file.label}:TABLE")
        try:
            with duckdb.connect(str(file.path), read_only=True) as connection:
                yield connection
        except duckdb.Error as error:
            reason = " ".join(str(error).split())
            raise UserError(f"{file.label}: can't be read: {reason}") from None


def _quoted(file: File) -> str:
    parts = (part.replace('"', '""') for part in file.table.split("."))
    return ".".join(f'"{part}"' for part in parts)


def _require_table(connection: Any, file: File) -> None:
    """Raise UserError for a view, whose rows may come in another order each time."""
    schema, _, name = file.table.rpartition(".")
    rows = connection.execute(
        "select table_name, table_type from information_schema.tables where table_schema = ?",
        [schema or "main"],
    ).fetchall()
    kinds = dict(rows)
    if name not in kinds:
        raise UserError(f"{file.label}: found no table {name!r}{nearest(name, kinds)}")
    if kinds[name] == "VIEW":
        raise UserError(f"{file.label}: found a view, expected a table")


# Each has `schema`, the number of `rows` where it is known without reading them, and `read`: the
# number of the first row read, at most `start`, and the rows from it on. Rows that can't be parsed
# are appended to `malformed` before the rows after them are yielded.
Format = Parquet | Csv | Duck
FORMATS: tuple[Format, ...] = (Parquet(), Csv(), Duck())
