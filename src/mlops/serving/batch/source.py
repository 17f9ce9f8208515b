"""Where the rows to score come from: Parquet or CSV files, or a DuckDB table, piece by piece.

A piece is so many rows of one file, and always the same ones: work that was interrupted knows by
its name whether it has been done.
"""

from __future__ import annotations

import glob
import re
from collections.abc import Container, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa

from mlops.base.errors import UserError
from mlops.contract.bundle import Array
from mlops.serving.batch.formats import KINDS, Duck, Lost, Place

ROWS = 2**16
TABLE = re.compile(r"(?P<file>.+\.(?:duckdb|db)):(?P<table>[^:/\\]+)")


class Kind(Protocol):
    """How places of one format are read."""

    text: bool

    def schema(self, place: Place) -> pa.Schema:
        """The columns of a place; raises UserError when it can't be read."""

    def rows(self, place: Place) -> int | None:
        """How many rows it has, where that is known without reading them."""

    def read(
        self, place: Place, start: int, lost: list[Lost]
    ) -> tuple[int, Iterator[pa.RecordBatch]]:
        """Its rows from `start` on, or from a little before: the first one's number, and they.

        Rows that could not be taken apart are not among them, but in `lost` by the time that
        those after them are.
        """


@dataclass(frozen=True)
class Piece:
    """Some rows of one place: their numbers there, from 0, and those that are lost between."""

    name: str
    place: Place
    table: pa.Table
    rows: Array
    lost: tuple[Lost, ...]


@dataclass(frozen=True)
class Source:
    """All that is to be scored."""

    kind: Kind
    places: tuple[Place, ...]

    @cached_property
    def schema(self) -> pa.Schema:
        """The columns of the first place."""
        return self.kind.schema(self.places[0])

    @cached_property
    def pieces(self) -> int | None:
        """How many pieces there are, where that is known."""
        rows = [self.kind.rows(place) for place in self.places]
        known = [count for count in rows if count is not None]
        return sum(_count(n) for n in known) if len(known) == len(rows) else None

    def identity(self) -> list[dict[str, Any]]:
        """What tells this input from another one, and from itself once it has changed."""
        return [place.identity() for place in self.places]

    def require_alike(self) -> None:
        """Raise UserError for a place whose columns are not the first one's."""
        for place in self.places[1:]:
            _require_same(self.kind.schema(place), self.schema, place, self.places[0])

    def missing(self, done: Container[str]) -> Iterator[Piece]:
        """The pieces that are not done, in order."""
        for number, place in enumerate(self.places):
            yield from self._of_place(number, place, done)

    def _of_place(self, number: int, place: Place, done: Container[str]) -> Iterator[Piece]:
        first = 0
        while f"{number:05}-{first:05}" in done:
            first += 1
        count = self.kind.rows(place)
        if count is not None and first >= _count(count):
            return
        lost: list[Lost] = []
        start, batches = self.kind.read(place, first * ROWS, lost)
        tables = _cut(batches, self.schema, first * ROWS - start)
        for position, table in enumerate(tables, start=first):
            name = f"{number:05}-{position:05}"
            if name not in done:
                yield _piece(name, place, table, position * ROWS, lost)


def find(said: str) -> Source:
    """What a user named: a file, a folder, a pattern, or `FILE.duckdb:TABLE`.

    Raises UserError when nothing is there, or nothing that can be read.
    """
    table = TABLE.fullmatch(said)
    if table and not Path(said).exists():
        return Source(Duck(), (Place(_existing(table["file"]), table=table["table"]),))
    root = Path(said)
    if root.is_dir():
        return _files(said, root, [path for path in sorted(root.rglob("*")) if path.is_file()])
    if glob.has_magic(said) and not root.exists():
        found = sorted(Path(name) for name in glob.glob(said, recursive=True))
        return _files(said, None, [path for path in found if path.is_file()])
    return _files(said, None, [_existing(said)])


def _existing(name: str) -> Path:
    if not Path(name).is_file():
        raise UserError(f"{name}: not found; expected a file, a folder, a pattern or a table")
    return Path(name)


def _files(said: str, root: Path | None, paths: list[Path]) -> Source:
    """The files of the first kind that there are any of."""
    shown = [path for path in paths if not _hidden(path, root)]
    for kind in KINDS:
        mine = tuple(Place(p, root=root) for p in shown if p.name.endswith(kind.endings))
        if mine:
            return Source(kind, mine)
    endings = ", ".join(ending for kind in KINDS for ending in kind.endings)
    raise UserError(f"{said}: found no file that ends in {endings}, expected one to score")


def _hidden(path: Path, root: Path | None) -> bool:
    """Whether a file is not data: what Spark and others call `_SUCCESS` or `.crc`."""
    names = path.relative_to(root).parts if root else (path.name,)
    return any(name.startswith(("_", ".")) for name in names)


def _require_same(found: pa.Schema, first: pa.Schema, place: Place, other: Place) -> None:
    for field in first:
        kind = found.field(field.name).type if field.name in found.names else "nothing"
        if kind != field.type:
            raise UserError(
                f"{place.label}: column {field.name!r}: found {kind}, "
                f"expected {field.type} as in {other.label}"
            )
    for name in found.names:
        if name not in first.names:
            raise UserError(f"{place.label}: column {name!r}: not in {other.label}")


def _count(rows: int) -> int:
    # Of no rows there is one piece, so that what is written has its columns.
    return max(1, -(-rows // ROWS))


def _cut(batches: Iterator[pa.RecordBatch], schema: pa.Schema, drop: int) -> Iterator[pa.Table]:
    """Tables of `ROWS` rows, the last one of fewer, once `drop` rows are dropped."""
    held: list[pa.RecordBatch] = []
    size, given = 0, False
    for batch in batches:
        gone, drop = min(drop, len(batch)), max(0, drop - len(batch))
        batch = batch.slice(gone).select(schema.names)
        while size + len(batch) >= ROWS:
            head = ROWS - size
            yield _table([*held, batch.slice(0, head)], schema)
            held, size, batch, given = [], 0, batch.slice(head), True
        held, size = [*held, batch], size + len(batch)
    if size or not given:
        yield _table(held, schema)


def _table(batches: list[pa.RecordBatch], schema: pa.Schema) -> pa.Table:
    """One table in one chunk: the same bytes however it was read."""
    batches = [batch.replace_schema_metadata(None) for batch in batches if len(batch)]
    return pa.Table.from_batches(batches, schema.remove_metadata()).combine_chunks()


def _piece(name: str, place: Place, table: pa.Table, first: int, lost: list[Lost]) -> Piece:
    # Rows are cut by those that could be read; the others count as the file has them.
    before = np.array([row.before for row in lost], dtype=np.int64)
    places = np.arange(first, first + len(table), dtype=np.int64)
    rows = places + np.searchsorted(before, places, side="right")
    last = len(table) < ROWS
    mine = [row for row in lost if first <= row.before and (last or row.before < first + ROWS)]
    return Piece(name, place, table, rows, tuple(mine))
