"""The rows to score, in pieces: of Parquet or CSV files, or of a DuckDB table.

A piece has always the same rows of one file, and a name by which a run that goes on after an
interruption knows whether it has been scored.
"""

from __future__ import annotations

import glob
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import csv

from mlops.base.errors import UserError, nearest, one_line
from mlops.contract.bundle import Array

ROWS = 2**16
# Rows of Parquet that one Spark task scores at least, where the file has as many.
SPAN = 2**20
# Bytes of a file read at a time.
BLOCK, BUFFER = 2**22, 2**20
FORMATS = PARQUET, CSV, DUCKDB = (".parquet",), (".csv", ".csv.gz"), (".duckdb", ".db")
ENDINGS = (*PARQUET, *CSV, *DUCKDB)
TABLE = re.compile(r"(?P<file>.+\.(?:duckdb|db)):(?P<table>[^:/\\]+)")
ORIGIN = pa.schema({"file": pa.string(), "row": pa.int64(), "reason": pa.string()})


@dataclass(frozen=True)
class Piece:
    """Rows of one file, their numbers in it, from 0, and by number the reasons of the malformed
    rows between them."""

    name: str
    file: File
    table: pa.Table
    rows: Array
    malformed: dict[int, str]

    def refused(self, reasons: dict[int, str]) -> pa.Table:
        """The malformed rows, and those at these positions, with file, number and reason."""
        positions = sorted(reasons)
        numbers = [*self.rows[positions].tolist(), *self.malformed]
        refused = pa.table(
            {
                "file": [self.file.label] * len(numbers),
                "row": numbers if self.file.ordered else [None] * len(numbers),
                "reason": [*(reasons[row] for row in positions), *self.malformed.values()],
            },
            schema=ORIGIN,
        )
        # Nothing is known of a malformed row's columns.
        indices = pa.array([*positions, *[None] * len(self.malformed)], type=pa.int64())
        for column, values in zip(self.table.schema, self.table.columns, strict=True):
            if column.name not in ORIGIN.names:
                refused = refused.append_column(column, values.take(indices))
        return refused.sort_by("row")


@dataclass(frozen=True)
class Span:
    """Rows of a file, whose number is `file_number`, that are read one after the other: all, or
    those of some row groups of Parquet."""

    file: File
    file_number: int
    first: int
    rows: int
    groups: tuple[int, ...]

    def pieces(self, schema: pa.Schema) -> Iterator[Piece]:
        """The rows in pieces with the columns of the source."""
        malformed: dict[int, str] = {}
        with self.file.opened(malformed, self.groups) as (_, _, batches):
            first = self.first
            for table, last in _cut(batches, schema, self.file.keys):
                end = first + len(table)
                # Pieces are cut by parsed rows; row numbers count the malformed ones too.
                bad = np.array(list(malformed), dtype=np.int64)
                before = bad - np.arange(len(bad))
                parsed = np.arange(first, end)
                rows = parsed + np.searchsorted(before, parsed, side="right")
                within = bad[(before >= first) & (last | (before < end))].tolist()
                name = f"part-{self.file_number:05}-{first:010}"
                yield Piece(name, self.file, table, rows, {row: malformed[row] for row in within})
                first = end


@dataclass(frozen=True)
class File:
    """A file by its absolute path, or a table of a database's file; `label`: its name for people.

    `keys`: columns that the names of its folders give; `ordered`: whether its rows have numbers.
    """

    path: Path
    label: str
    table: str = ""
    keys: dict[str, str] = field(default_factory=dict)
    ordered: bool = True

    @property
    def text(self) -> bool:
        """Whether every column is text, kept as it is."""
        return self.path.name.endswith(CSV)

    @cached_property
    def schema(self) -> pa.Schema:
        with self.opened({}) as (schema, _, _):
            for name in self.keys:
                if name not in schema.names:
                    schema = schema.append(pa.field(name, pa.string()))
            return schema.remove_metadata()

    @contextmanager
    def opened(
        self, malformed: dict[int, str], groups: Iterable[int] = ()
    ) -> Iterator[tuple[pa.Schema, list[int], Iterable[pa.RecordBatch]]]:
        """The file's columns, the rows of its groups where they are known, and the rows themselves.

        A row that can't be parsed is put in `malformed` before the rows after it are read. Raises
        UserError for a file that can't be read.
        """
        import duckdb

        try:
            if self.path.name.endswith(DUCKDB):
                with duckdb.connect(str(self.path), read_only=True) as connection:
                    rows = self._rows(connection)
                    counts = [rows.shape[0]]
                    reader = rows.to_arrow_reader(ROWS)
                    yield reader.schema, counts, reader
            elif self.text:
                with _csv(self.path, malformed) as reader:
                    yield reader.schema, [], reader
            else:
                # Without a buffer, a whole column of a row group would be in memory at once.
                with pq.ParquetFile(self.path, buffer_size=BUFFER) as reader:
                    found = reader.metadata
                    counts = [found.row_group(n).num_rows for n in range(found.num_row_groups)]
                    batches = reader.iter_batches(batch_size=ROWS, row_groups=groups)
                    yield reader.schema_arrow, counts, batches
        except (pa.ArrowException, UnicodeDecodeError, duckdb.Error, OSError) as error:
            # Arrow says "OSError" of a file that is cut short, and gives no number.
            if isinstance(error, OSError) and error.errno:
                raise
            raise UserError(f"{self.label}: can't be read: {one_line(error)}") from None

    def _rows(self, connection: Any) -> Any:
        """The table; raises UserError for a view: its rows may come in another order each time."""
        if not self.table:
            raise UserError(f"{self.label}: found a database, expected {self.label}:TABLE")
        schema, _, name = self.table.rpartition(".")
        query = "from information_schema.tables select table_name, table_type where table_schema=?"
        kinds = dict(connection.execute(query, [schema or "main"]).fetchall())
        if name not in kinds:
            raise UserError(f"{self.label}: found no table {name!r}{nearest(name, kinds)}")
        if kinds[name] == "VIEW":
            raise UserError(f"{self.label}: found a view, expected a table")
        quoted = ".".join(f'"{part}"' for part in self.table.replace('"', '""').split("."))
        return connection.sql(f"from {quoted}")


@dataclass(frozen=True)
class Source:
    """The files to score, whose columns are alike."""

    files: tuple[File, ...]

    @cached_property
    def schema(self) -> pa.Schema:
        """The columns of the first file. Raises UserError for a file with others."""
        first, *others = self.files
        expected = dict(zip(first.schema.names, first.schema.types, strict=True))
        for file in others:
            found = dict(zip(file.schema.names, file.schema.types, strict=True))
            for name in expected | found:
                if found.get(name) != expected.get(name):
                    raise UserError(
                        f"{file.label}: column {name!r}: found {found.get(name, 'nothing')}, "
                        f"expected {expected.get(name, 'nothing')} as in {first.label}"
                    )
        return first.schema

    def identity(self) -> list[dict[str, Any]]:
        """Path, size and time of change of each file."""
        return [
            {"place": str(file.path.resolve()), "table": file.table, "bytes": status.st_size,
             "changed": status.st_mtime_ns}
            for file in self.files for status in [file.path.stat()]
        ]  # fmt: skip

    def spans(self) -> Iterator[Span]:
        """All rows, by so many row groups at a time; no rows make a span, and that a piece."""
        for number, file in enumerate(self.files):
            with file.opened({}) as (_, counts, _):
                step = max(1, SPAN // max([1, *counts]))
                for first in range(0, max(1, len(counts)), step):
                    groups = tuple(range(len(counts)))[first : first + step]
                    rows = sum(counts[first : first + step])
                    yield Span(file, number, sum(counts[:first]), rows, groups)


def find(name: str) -> Source:
    """The source that a user names: a file, a folder, a pattern, or `FILE.duckdb:TABLE`.

    Of several formats, the files of the first one are taken; folders may be named `key=value`.
    Raises UserError when nothing is there, or nothing that can be read.
    """
    root, table, named = Path(name), "", TABLE.fullmatch(name)
    if named and not root.exists():
        root, table = Path(named["file"]), named["table"]
    if root.is_dir():
        paths = sorted(root.rglob("*"))
    elif glob.has_magic(name) and not root.exists():
        paths = sorted(Path(path) for path in glob.glob(name, recursive=True))
    elif root.is_file():
        paths = [root]
    else:
        raise UserError(f"{root}: not found; expected a file, a folder, a pattern or a table")
    for endings in FORMATS:
        files = []
        for path in (path for path in paths if path.is_file() and path.name.endswith(endings)):
            parts = path.relative_to(root if root.is_dir() else path.parent).parts
            # As Spark's `_SUCCESS` and `.crc`.
            if not any(part.startswith(("_", ".")) for part in parts):
                keys = dict(part.split("=", 1) for part in parts[:-1] if "=" in part)
                label = f"{path}:{table}" if table else str(path)
                files.append(File(path.absolute(), label, table, keys))
        if files:
            return Source(tuple(files))
    expected = ", ".join(ENDINGS)
    raise UserError(f"{name}: found no file that ends in {expected}, expected one to score")


def _csv(path: Path, malformed: dict[int, str]) -> csv.CSVStreamingReader:
    def skip(row: Any) -> str:
        reason = f"found {row.actual_columns} fields, expected {row.expected_columns}"
        malformed[row.number - 2] = reason  # Counted from 1, and the header too.
        return "skip"

    return csv.open_csv(
        path,
        read_options=csv.ReadOptions(block_size=BLOCK, use_threads=False),
        parse_options=csv.ParseOptions(newlines_in_values=True, invalid_row_handler=skip),
        convert_options=csv.ConvertOptions(default_column_type=pa.string()),
    )


def _cut(
    batches: Iterable[pa.RecordBatch], schema: pa.Schema, keys: dict[str, str]
) -> Iterator[tuple[pa.Table, bool]]:
    """Tables of `ROWS` rows, each in one chunk so that the same rows give the same bytes, and
    whether one is the last, which may have fewer rows."""
    pending = schema.empty_table()
    for batch in batches:
        columns = [
            batch[name] if name in batch.schema.names else pa.repeat(keys[name], len(batch))
            for name in schema.names
        ]
        pending = pa.concat_tables([pending, pa.Table.from_arrays(columns, schema=schema)])
        while len(pending) > ROWS:
            yield pending.slice(0, ROWS).combine_chunks(), False
            pending = pending.slice(ROWS)
    yield pending.combine_chunks(), True
