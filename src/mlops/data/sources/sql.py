"""Raw tables from a database: PostgreSQL through ADBC, SQL Server and Azure SQL."""

from __future__ import annotations

import datetime as dt
import hashlib
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, closing
from typing import TYPE_CHECKING, Any

from mlops.base.errors import UserError, one_line
from mlops.data.sources import OPERATORS, Query, Rows, no_versions
from mlops.data.sources.database import Database, database

if TYPE_CHECKING:
    import pyarrow as pa
    import sqlalchemy as sa

ATTEMPTS = 3
# Rows of months that one query asks for.
TOGETHER = 200_000
# Bytes of a month that need no file.
IN_MEMORY = 2**25
# Days since 1970 of the first and the last one that Python has: PostgreSQL's infinity is beyond.
FIRST, LAST = (
    day.toordinal() - dt.date(1970, 1, 1).toordinal() for day in (dt.date.min, dt.date.max)
)
INSTANTS = {"timestamp with time zone", "datetimeoffset"}
DAYS = {"date", "timestamp without time zone", "datetime", "datetime2", "smalldatetime", *INSTANTS}
# What ADBC reads as it is; any other type, such as money or an enum, is read as its text.
PLAIN = {
    *("boolean", "smallint", "integer", "bigint", "real", "double precision", "bytea"),
    *("text", "character", "character varying", "date"),
    *("timestamp without time zone", "timestamp with time zone"),
}


def read(location: str, query: Query) -> Rows:
    """Stream the rows of a table or view, a month at a time where it has the query's day.

    `location` names an environment variable with an SQLAlchemy URL, and after a slash the schema.
    All months are read in one snapshot. A month is kept in a temporary file before it is handed
    on, so that a lost connection costs one month; the months that follow then are of a later
    snapshot.
    """
    no_versions("sql", [query])
    store = database(location)
    with store.explained(), ExitStack() as opened:
        connection = opened.enter_context(closing(store.begin()))
        table = Table(store, query, store.columns_of(connection, query.name))
        return Rows(tuple(table.kinds), _batches(table, connection, opened.pop_all()))


def fingerprint(location: str, queries: Sequence[Query]) -> dict[str, str]:
    """For each table the number of rows and a sum of their hashes, computed in the server.

    Of the days and columns asked for: rows of later days make no other state. The hashes of SQL
    Server have 32 bits and leave out columns of `text`, `ntext`, `image` and `xml`.
    """
    no_versions("sql", queries)
    store, states = database(location), {}
    with store.reading() as connection:
        for query in queries:
            table = Table(store, query, store.columns_of(connection, query.name))
            ((count, total),) = store.rows(connection, table.state())
            types = hashlib.sha256(
                repr([(name, table.kinds[name]) for name in table.names]).encode()
            )
            states[query.name] = f"{count} rows, hash {total}, columns {types.hexdigest()[:12]}"
    return states


class Table:
    """The statements about one table; `kinds` are the types of its columns, as declared there."""

    def __init__(self, store: Database, query: Query, kinds: dict[str, Any]) -> None:
        import sqlalchemy as sa

        self.store, self.query, self.kinds = store, query, kinds
        self.names = [name for name in kinds if query.columns is None or name in query.columns]
        self.rows = sa.table(query.name, *map(sa.column, kinds), schema=store.schema)
        kind = kinds.get(query.day or "", [None])[0]
        self.day: Any = self.rows.c[str(query.day)] if kind in DAYS else None
        self.zoned = kind in INSTANTS

    def select(self, *conditions: Any) -> sa.Select[Any]:
        """The columns asked for, of the days asked for."""
        import sqlalchemy as sa

        columns: list[Any] = [self.rows.c[name] for name in self.names]
        if self.store.dialect.name == "postgresql":
            columns = [
                column if self.kinds[column.name][0] in PLAIN
                else sa.cast(column, sa.Text).label(column.name)
                for column in columns
            ]  # fmt: skip
        return sa.select(*columns).where(*self._within(), *conditions)

    def months(self) -> sa.Select[Any]:
        """The years and months that the table has, NULL where the day is, and their rows."""
        import sqlalchemy as sa

        day = self.day
        if self.store.dialect.name == "mssql" and self.zoned:
            day = sa.func.switchoffset(day, "+00:00")
        parts = [sa.cast(sa.extract(part, day), sa.Integer) for part in ("year", "month")]
        count = sa.cast(sa.func.count(), sa.BigInteger)
        months = sa.select(*parts, count).select_from(self.rows).where(*self._within())
        return months.group_by(*parts).order_by(*parts)

    def pieces(self, months: Iterable[Any]) -> Iterator[sa.Select[Any]]:
        """The rows of each month, small months together, and those without a day."""
        first, size = None, 0
        for year, month, count in months:
            if year is None:
                yield self.select(self.day.is_(None))
                continue
            begin = dt.date(year, month, 1)
            if first and size + count > TOGETHER:
                yield self.select(*self._compared([(">=", first), ("<", begin)]))
                first, size = None, 0
            first, size = first or begin, size + count
        if first:
            yield self.select(*self._compared([(">=", first)]))

    def state(self) -> sa.Select[Any]:
        """The number of rows and a sum of hashes, which no order of rows changes."""
        import sqlalchemy as sa

        rows = self.select().subquery("mlops_rows")
        if self.store.dialect.name == "mssql":
            every: Any = sa.literal_column("*")
            total = sa.func.checksum_agg(sa.func.binary_checksum(every))
            return sa.select(sa.func.count_big(every), total).select_from(rows)
        text = sa.cast(sa.literal_column("mlops_rows"), sa.Text)
        total = sa.func.sum(sa.cast(sa.func.hashtextextended(text, 0), sa.Numeric))
        return sa.select(sa.func.count(), sa.cast(total, sa.Text)).select_from(rows)

    def _within(self) -> list[Any]:
        """The days asked for; rows without a day too, which ingest refuses."""
        import sqlalchemy as sa

        terms = self._compared(self.query.bounds(zoned=self.zoned))
        return [sa.or_(sa.and_(*terms), self.day.is_(None))] if terms else []

    def _compared(self, limits: list[tuple[str, dt.date]]) -> list[Any]:
        import sqlalchemy as sa

        if self.day is None:
            return []
        return [OPERATORS[name](self.day, sa.literal(day, sa.Date)) for name, day in limits]


def _batches(table: Table, connection: Any, opened: ExitStack) -> Iterator[pa.RecordBatch]:
    import pyarrow as pa

    store = table.store
    with store.explained(), opened:
        statements = [table.select()]
        if table.day is not None:
            statements = list(table.pieces(store.rows(connection, table.months())))
        for statement in statements:
            with tempfile.SpooledTemporaryFile(IN_MEMORY) as file:
                for attempt in range(ATTEMPTS):
                    try:
                        if attempt:
                            connection = opened.enter_context(closing(store.begin()))
                        _keep(store, connection, statement, file)
                        break
                    except store.away:
                        opened.close()
                        if attempt == ATTEMPTS - 1:
                            raise
                for batch in pa.ipc.open_stream(file):
                    yield _typed(batch, table)


def _keep(store: Database, connection: Any, statement: Any, file: Any) -> None:
    """Write a result to a file, without what the driver says of each column."""
    import pyarrow as pa

    file.seek(0)
    file.truncate()
    with closing(store.execute(connection, statement, literal=store.stream_literally)) as cursor:
        batches = store.stream(cursor)
        schema = pa.schema([field.remove_metadata() for field in batches.schema])
        with pa.ipc.new_stream(file, schema) as writer:
            for batch in batches:
                writer.write_batch(pa.RecordBatch.from_arrays(batch.columns, schema=schema))
    file.seek(0)


def _typed(batch: pa.RecordBatch, table: Table) -> pa.RecordBatch:
    """Decimals as they are declared, and floats where no precision is; days that Python has."""
    import pyarrow as pa

    columns = []
    for name, values in zip(batch.schema.names, batch.columns, strict=True):
        kind, precision, scale = table.kinds[name]
        place = f"{table.store.place}: {table.query.name}.{name}"
        if kind == "numeric" and pa.types.is_string(values.type):
            wide = pa.decimal128 if (precision or 0) <= 38 else pa.decimal256
            fits = precision and precision <= 76
            try:
                values = values.cast(wide(precision, scale) if fits else pa.float64())
            except pa.ArrowInvalid as error:
                raise UserError(f"{place}: expected numbers; {one_line(error)}") from None
        _require_days(values, place)
        columns.append(values)
    return pa.RecordBatch.from_arrays(columns, names=batch.schema.names)


def _require_days(values: pa.Array, place: str) -> None:
    import pyarrow as pa
    import pyarrow.compute as pc

    if pa.types.is_date32(values.type):
        day = 1
    elif pa.types.is_timestamp(values.type) and values.type.unit == "us":
        day = 86_400_000_000
    else:
        return
    ends = pc.min_max(values.cast(pa.int32() if day == 1 else pa.int64()))
    if ends["min"].is_valid:
        for end in (ends["min"].as_py(), ends["max"].as_py()):
            if not FIRST <= end // day <= LAST:
                raise UserError(f"{place}: found infinity or a year before 1 or after 9999")
