"""The rows to score, in pieces: of Parquet or CSV files, or of a DuckDB table.

A piece has always the same rows of one file, and a name by which a run that goes on after an
interruption knows whether it has been scored.
"""

from __future__ import annotations

import glob
import re
from collections.abc import Container, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from mlops.base.errors import UserError
from mlops.contract.bundle import Array
from mlops.serving.batch.formats import FORMATS, Duck, File, Format, Malformed

ROWS = 2**16
TABLE = re.compile(r"(?P<file>.+\.(?:duckdb|db)):(?P<table>[^:/\\]+)")


@dataclass(frozen=True)
class Piece:
    """Rows of one file, their numbers in it, from 0, and malformed rows between them."""

    name: str
    file: File
    table: pa.Table
    rows: Array
    malformed: tuple[Malformed, ...]


@dataclass(frozen=True)
class Source:
    """The files to score."""

    format: Format
    files: tuple[File, ...]

    @cached_property
    def schema(self) -> pa.Schema:
        """The columns of the first file."""
        return self.format.schema(self.files[0])

    @cached_property
    def pieces(self) -> int | None:
        """The number of pieces, where it is known."""
        rows = [self.format.rows(file) for file in self.files]
        known = [count for count in rows if count is not None]
        return sum(_count(n) for n in known) if len(known) == len(rows) else None

    def identity(self) -> list[dict[str, Any]]:
        """Path, size and time of change of each file."""
        return [file.identity() for file in self.files]

    def require_alike(self) -> None:
        """Raise UserError for a file whose columns are not the first one's."""
        for file in self.files[1:]:
            _require_same(self.format.schema(file), self.schema, file, self.files[0])

    def missing(self, done: Container[str]) -> Iterator[Piece]:
        """The pieces that are not scored yet, in order."""
        for number, file in enumerate(self.files):
            yield from self._pieces_of(number, file, done)

    def _pieces_of(self, number: int, file: File, done: Container[str]) -> Iterator[Piece]:
        first = 0
        while f"{number:05}-{first:05}" in done:
            first += 1
        count = self.format.rows(file)
        if count is not None and first >= _count(count):
            return
        malformed: list[Malformed] = []
        start, batches = self.format.read(file, first * ROWS, malformed)
        tables = _cut(batches, self.schema, first * ROWS - start)
        for position, table in enumerate(tables, start=first):
            name = f"{number:05}-{position:05}"
            if name not in done:
                yield _piece(name, file, table, position * ROWS, malformed)


def find(name: str) -> Source:
    """The source that a user names: a file, a folder, a pattern, or `FILE.duckdb:TABLE`.

    Raises UserError when nothing is there, or nothing that can be read.
    """
    table = TABLE.fullmatch(name)
    if table and not Path(name).exists():
        return Source(Duck(), (File(_existing(table["file"]), table=table["table"]),))
    root = Path(name)
    if root.is_dir():
        return _files(name, root, [path for path in sorted(root.rglob("*")) if path.is_file()])
    if glob.has_magic(name) and not root.exists():
        paths = sorted(Path(found) for found in glob.glob(name, recursive=True))
        return _files(name, None, [path for path in paths if path.is_file()])
    return _files(name, None, [_existing(name)])


def _existing(name: str) -> Path:
    if not Path(name).is_file():
        raise UserError(f"{name}: not found; expected a file, a folder, a pattern or a table")
    return Path(name)


def _files(name: str, root: Path | None, paths: list[Path]) -> Source:
    """The files of the first format that there are any of."""
    shown = [path for path in paths if not _hidden(path, root)]
    for format in FORMATS:
        files = tuple(File(p, root=root) for p in shown if p.name.endswith(format.endings))
        if files:
            return Source(format, files)
    endings = ", ".join(ending for format in FORMATS for ending in format.endings)
    raise UserError(f"{name}: found no file that ends in {endings}, expected one to score")


def _hidden(path: Path, root: Path | None) -> bool:
    """Whether a file is no data, as Spark's `_SUCCESS` and `.crc`."""
    names = path.relative_to(root).parts if root else (path.name,)
    return any(name.startswith(("_", ".")) for name in names)


def _require_same(found: pa.Schema, first: pa.Schema, file: File, other: File) -> None:
    for field in first:
        type_ = found.field(field.name).type if field.name in found.names else "nothing"
        if type_ != field.type:
            raise UserError(
                f"{file.label}: column {field.name!r}: found {type_}, "
                f"expected {field.type} as in {other.label}"
            )
    for name in found.names:
        if name not in first.names:
            raise UserError(f"{file.label}: column {name!r}: not in {other.label}")


def _count(rows: int) -> int:
    # No rows make one piece, so that the output has its columns.
    return max(1, -(-rows // ROWS))


def _cut(batches: Iterator[pa.RecordBatch], schema: pa.Schema, drop: int) -> Iterator[pa.Table]:
    """Tables of `ROWS` rows, the last one of fewer, once `drop` rows are dropped."""
    pending: list[pa.RecordBatch] = []
    size, given = 0, False
    for batch in batches:
        gone, drop = min(drop, len(batch)), max(0, drop - len(batch))
        batch = batch.slice(gone).select(schema.names)
        while size + len(batch) >= ROWS:
            head = ROWS - size
            yield _table([*pending, batch.slice(0, head)], schema)
            pending, size, batch, given = [], 0, batch.slice(head), True
        pending, size = [*pending, batch], size + len(batch)
    if size or not given:
        yield _table(pending, schema)


def _table(batches: list[pa.RecordBatch], schema: pa.Schema) -> pa.Table:
    """One table in one chunk, so that the same rows give the same bytes."""
    batches = [batch.replace_schema_metadata(None) for batch in batches if len(batch)]
    return pa.Table.from_batches(batches, schema.remove_metadata()).combine_chunks()


def _piece(name: str, file: File, table: pa.Table, first: int, malformed: list[Malformed]) -> Piece:
    # Pieces are cut by parsed rows; row numbers count the malformed ones too.
    before = np.array([row.before for row in malformed], dtype=np.int64)
    parsed = np.arange(first, first + len(table), dtype=np.int64)
    rows = parsed + np.searchsorted(before, parsed, side="right")
    end = first + ROWS if len(table) == ROWS else np.inf
    within = tuple(row for row in malformed if first <= row.before < end)
    return Piece(name, file, table, rows, within)
