"""Tables as streams of Arrow batches: from an engine, and to Parquet with the same bytes."""

from __future__ import annotations

import ctypes
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlops.base.errors import UserError, one_line

if TYPE_CHECKING:
    import pyarrow as pa

# Rows of a group of a Parquet file.
ROWS = 2**16
# Rows that are worked on at once, and that an engine gives at once.
CHUNK_ROWS, BATCH_ROWS = 2**14, 2**13
LIMIT, VARIABLE = "50%", "DUCKDB_MEMORY_LIMIT"
# M_MMAP_THRESHOLD of glibc's mallopt, and less than a block of DuckDB.
MMAP_THRESHOLD, BYTES = -3, 2**17


def quoted(name: str) -> str:
    """A column's name in SQL."""
    return '"' + name.replace('"', '""') + '"'


def parquet(*paths: Path) -> str:
    """Parquet files, or patterns of such, in SQL; columns that some lack are missing there."""
    # From this folder: a path has no bracket of the folders above it, which would be a pattern.
    places = (os.path.relpath(path).replace("'", "''") for path in paths)
    names = ", ".join(f"'{place}'" for place in places)
    return f"read_parquet([{names}], union_by_name = true)"


@contextmanager
def database(folder: Path) -> Iterator[Any]:
    """DuckDB, which spills into the folder."""
    import duckdb

    with duckdb.connect(config={"autoinstall_known_extensions": "false"}) as connection:
        limit(connection, folder)
        with resources():
            yield connection


def limit(connection: Any, folder: Path) -> None:
    """Let DuckDB write to the folder what does not fit in its share of the machine's memory."""
    connection.execute("SET preserve_insertion_order = false")
    connection.execute(f"SET memory_limit = '{os.environ.get(VARIABLE) or LIMIT}'")
    connection.execute(f"SET temp_directory = '{os.path.relpath(folder)}'")
    # Else glibc keeps freed blocks, more of them the longer a query takes.
    if mallopt := getattr(ctypes.CDLL(None), "mallopt", None):
        mallopt(MMAP_THRESHOLD, BYTES)


@contextmanager
def resources() -> Iterator[None]:
    """Say in one line that DuckDB has no memory or disk left, whichever library raises it."""
    try:
        yield
    except Exception as error:
        # Not what the project refuses, nor what the system says of a file of our own.
        if isinstance(error, UserError) or getattr(error, "errno", None):
            raise
        if "Out of Memory" in str(error):
            reason = one_line(str(error).partition("Possible solutions")[0])
            cure = f"set {VARIABLE} to more than {LIMIT} of the memory, such as 90%, or to a size"
            raise UserError(f"not enough memory: {reason}; {cure}") from error
        if re.search("No space left|IO Error", str(error)):
            raise UserError(f"DuckDB: {one_line(error)}") from error
        raise


def chunks(batches: Iterable[pa.RecordBatch], rows: int = ROWS) -> Iterator[pa.Table]:
    """The same rows in tables of so many each, or fewer where the types change or they end."""
    import pyarrow as pa

    held: list[pa.RecordBatch] = []
    for batch in batches:
        if held and batch.schema != held[0].schema:
            yield pa.Table.from_batches(held)
            held = []
        while batch.num_rows:
            part = batch.slice(0, rows - sum(each.num_rows for each in held))
            held.append(part)
            batch = batch.slice(part.num_rows)
            if sum(each.num_rows for each in held) == rows:
                yield pa.Table.from_batches(held)
                held = []
    if held:
        yield pa.Table.from_batches(held)


class Parquet:
    """Write a Parquet file in groups of ROWS rows: equal rows in equal order are equal bytes."""

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        import pyarrow.parquet as pq

        self.schema, self._writer = schema, pq.ParquetWriter(path, schema)
        self._held = schema.empty_table()

    def write(self, rows: pa.Table) -> None:
        """Add rows, in the types of the file."""
        import pyarrow as pa

        self._held = pa.concat_tables([self._held, rows.cast(self.schema)])
        while len(self._held) >= ROWS:
            self._flush()

    def _flush(self) -> None:
        # In one piece: where a piece ends, the writer may end a page.
        self._writer.write_table(self._held.slice(0, ROWS).combine_chunks(), ROWS)
        self._held = self._held.slice(ROWS)

    def __enter__(self) -> Parquet:
        return self

    def __exit__(self, kind: object, *error: object) -> None:
        if kind is None and len(self._held):
            self._flush()
        self._writer.close()


def require_frame(frame: Any) -> None:
    """Raise UserError for what is no DataFrame of an engine."""
    if not hasattr(frame, "toArrow"):
        kind = f"{type(frame).__module__}.{type(frame).__name__}"
        raise UserError(f"features: found {kind}, expected a DataFrame of the engine")


def batches(
    session: Any, frame: Any, order: list[Any]
) -> tuple[pa.Schema, Iterator[pa.RecordBatch]]:
    """The rows of an engine's DataFrame in an order, a few at a time.

    `order` are columns, or expressions of the engine.
    """
    ordered = frame.orderBy(*order)
    if type(session).__module__.startswith("sqlframe"):
        return from_duckdb(session, ordered.sql(dialect="duckdb", optimize=False))
    from pyspark.sql.pandas.types import to_arrow_schema

    return to_arrow_schema(ordered.schema, timezone="UTC"), from_spark(ordered)


def from_duckdb(session: Any, query: str) -> tuple[pa.Schema, Iterator[pa.RecordBatch]]:
    """The rows of a query of DuckDB's SQL, a few at a time."""
    with resources():
        reader = session._conn.sql(query).to_arrow_reader(BATCH_ROWS)
    return reader.schema, _read(reader)


def _read(reader: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    with resources():
        yield from reader


def from_spark(frame: Any) -> Iterator[pa.RecordBatch]:
    """The rows of a Spark DataFrame; each batch is one row of bytes, so the driver holds few."""
    import pyarrow as pa

    # Inside, so that it travels to executors that have no `mlops`.
    def packed(rows: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        import pyarrow as pa

        for batch in rows:
            sink = pa.BufferOutputStream()
            with pa.ipc.new_stream(sink, batch.schema) as stream:
                stream.write_batch(batch)
            content = pa.array([sink.getvalue().to_pybytes()], pa.binary())
            yield pa.RecordBatch.from_arrays([content], ["content"])

    parts = frame.mapInArrow(packed, "content binary")
    for row in parts.toLocalIterator(prefetchPartitions=True):
        yield from pa.ipc.open_stream(bytes(row[0]))
