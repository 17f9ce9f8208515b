"""Raw tables beside their place, checked: batch by batch, then keys and references by DuckDB."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlops.base.errors import UserError, one_line
from mlops.contract import project
from mlops.data.failures import EXAMPLES, Failure, examples, explain, ranges
from mlops.data.sources import Query, Rows
from mlops.data.streaming import ROWS, chunks, parquet, quoted
from mlops.data.tables import references
from mlops.data.validation import Validator

if TYPE_CHECKING:
    import pyarrow as pa

    from mlops.data.tables import Schema

# Values of a batch of rows: as Python's objects they take tens of bytes each.
CELLS = 2**22


@dataclass(frozen=True)
class Staged:
    """A table whose checked rows lie in Parquet files, `place` for the engine.

    `columns` are the source's own, `schema` has the types of those that are kept; `present` are
    the ones of them that have a value, and so a type of their own, in the files.
    """

    validator: Validator
    columns: tuple[str, ...]
    schema: pa.Schema
    present: frozenset[str]
    place: str

    @property
    def left_out(self) -> list[str]:
        """The columns of the source that are in no schema, as `table.column`."""
        others = (column for column in self.columns if column not in self.schema.names)
        return [f"{self.validator.name}.{column}" for column in ranges(others)]

    @property
    def select(self) -> str:
        """SQL for the columns that are kept, in their order."""
        names = self.schema.names
        return ", ".join(("" if n in self.present else "NULL AS ") + quoted(n) for n in names)


@dataclass(frozen=True)
class Staging:
    """Reads a project's tables into a folder, and checks them there with DuckDB."""

    read: Callable[[Query], Rows]
    project: str
    engine: Any
    folder: Path

    def tables(
        self, queries: Mapping[str, Query], schemas: Mapping[str, Schema]
    ) -> dict[str, Staged]:
        """All tables; UserError lists every failure of every table."""
        made = {name: self._table(queries[name], schema) for name, schema in schemas.items()}
        failures = [one for table in made.values() for one in table.validator.failures]
        if not failures:
            failures = [f for n, s in schemas.items() for f in self._broken_references(n, s, made)]
        if failures:
            raise UserError(explain(failures))
        return made

    def _table(self, query: Query, schema: Schema) -> Staged:
        import pyarrow as pa

        rows, place = self.read(query), self.folder / query.name
        validator = Validator(query.name, schema, query.until)
        place.mkdir()
        types = self._write(rows, validator, place)
        if not validator.rows and query.until:
            # All rows are later, or there are none: the days say which.
            self._write(self.read(replace(query, until=None)), validator, place)
        try:
            present = pa.unify_schemas(types, promote_options="permissive")
        except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
            raise UserError(f"tables.py: {query.name}: {one_line(error)}") from None
        kinds = {name: kept or pa.string() for name, kept in validator.types.items()}
        kinds |= {name: present.field(name).type for name in kinds if name in present.names}
        made = Staged(
            validator,
            rows.columns,
            pa.schema(list(kinds.items())),
            frozenset(present.names),
            parquet(place / "*.parquet"),
        )
        if present.names:
            for failure in self._shared_keys(schema, made):
                validator.add(failure)
            if validator.whole:
                whole = self.engine.execute(
                    f"SELECT {made.select} FROM {made.place}"
                ).to_arrow_table()
                with project.own_code(self.project, "tables"):
                    validator.check_whole(whole.cast(made.schema))
        return made

    def _write(self, rows: Rows, validator: Validator, place: Path) -> list[pa.Schema]:
        """Write the rows that fit; a file for as long as their types are the same."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        types = [pa.schema([])]
        with ExitStack() as stack:
            for batch in chunks(rows.batches, max(1, min(ROWS, CELLS // (len(rows.columns) or 1)))):
                with project.own_code(self.project, "tables"):
                    kept = validator.batch(batch)
                if not len(kept):
                    continue
                if kept.schema != types[-1]:
                    stack.close()
                    file = place / f"{len(types):06}.parquet"
                    writer = pq.ParquetWriter(file, kept.schema, compression="lz4")
                    stack.enter_context(writer)
                    types.append(kept.schema)
                writer.write_table(kept)
        return types

    def _shared_keys(self, schema: Schema, made: Staged) -> Iterator[Failure]:
        """Rows that share a key, and values of a unique column that are there twice."""
        columns = schema.to_schema().columns.items()
        keys = [(made.validator.key, "unique key", "IS NOT NULL")]
        keys += [((c,), "field_uniqueness", "IS NULL OR true") for c, own in columns if own.unique]
        for key, check, condition in keys:
            if not key or not made.present.issuperset(key):
                continue
            names = list(map(quoted, key))
            where = " AND ".join(f"({name} {condition})" for name in names)
            shared = (
                f"FROM {made.place} WHERE {where} GROUP BY {', '.join(names)} HAVING count(*) > 1"
            )
            (rows,) = self.engine.execute(
                f"SELECT coalesce(sum(n), 0)::BIGINT FROM (SELECT count(*) AS n {shared})"
            ).fetchall()[0]
            if rows:
                values = self.engine.execute(
                    f"SELECT {', '.join(names)} {shared} "
                    f"ORDER BY min((file_index, file_row_number)) LIMIT {EXAMPLES}"
                )
                texts = values.df().astype(str).agg(" ".join, axis=1)
                yield Failure(made.validator.name, ", ".join(key), check, rows, examples(texts))

    def _broken_references(
        self, name: str, schema: Schema, tables: Mapping[str, Staged]
    ) -> Iterator[Failure]:
        """Columns whose values another table has too seldom."""
        for column, (target, needed) in references(schema).items():
            other, key = target.split(".")
            own, theirs = tables[name], tables[other]
            if column not in own.present:
                continue
            kinds = [tables[t].schema.field(c).type for t, c in ((name, column), (other, key))]
            # Text is never a number, nor cast to one.
            alike = key in theirs.present and len({_is_text(kind) for kind in kinds}) == 1
            same = f"own.{quoted(column)} = theirs.{quoted(key)}" if alike else "false"
            lost = (
                f"FROM {own.place} AS own ANTI JOIN {theirs.place} AS theirs ON {same} "
                f"WHERE {quoted(column)} IS NOT NULL"
            )
            count = f"SELECT count({quoted(column)}) FROM {own.place}"
            (values,) = self.engine.execute(count).fetchall()[0]
            (rows,) = self.engine.execute(f"SELECT count(*) {lost}").fetchall()[0]
            if rows > (1 - needed) * values:
                first = self.engine.execute(
                    f"SELECT {quoted(column)} {lost} GROUP BY 1 "
                    f"ORDER BY min((file_index, file_row_number)) LIMIT {EXAMPLES}"
                )
                texts = examples(first.df().iloc[:, 0])
                yield Failure(name, column, f"{needed:.0%} are in {target}", rows, texts)


def _is_text(kind: pa.DataType) -> bool:
    import pyarrow as pa

    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))
