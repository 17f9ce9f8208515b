"""Raw tables that a Spark session knows, such as `catalog.schema.table` on Databricks."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from mlops.base.errors import UserError, listed, nearest, one_line
from mlops.data import engine
from mlops.data.sources import OPERATORS, Query, Rows, Unreachable
from mlops.data.streaming import from_spark

if TYPE_CHECKING:
    import pyarrow as pa


def read(location: str, query: Query) -> Rows:
    """Stream a table's rows through the driver, which holds one partition at a time.

    `location` is `catalog.schema` or `schema`; empty, it is the session's current one.
    """
    with explained(location, query.name):
        session = started()
        columns = tuple(_table(session, location, query).columns)
        return Rows(columns, _batches(frame(session, location, query), location, query.name))


def fingerprint(location: str, queries: Sequence[Query]) -> dict[str, str]:
    """The version of a Delta table; of others the number of rows and a sum of their hashes.

    The hashes are those of the days and columns asked for, and of the columns' types.
    """
    states, session = {}, started()
    for query in queries:
        with explained(location, query.name):
            states[query.name] = _state(session, location, query)
    return states


def frame(session: Any, location: str, query: Query) -> Any:
    """The DataFrame of a query: its columns and days, at its version where the table is Delta."""
    from pyspark.sql import functions as F

    table = _table(session, location, query)
    kinds = dict(table.dtypes)
    if kinds.get(query.day or "") in ("date", "timestamp", "timestamp_ntz"):
        day = F.col(quoted(str(query.day)))
        for name, limit in query.bounds(zoned=kinds[str(query.day)] == "timestamp"):
            table = table.where(OPERATORS[name](day, F.lit(limit)) | day.isNull())
    names = [name for name in table.columns if query.columns is None or name in query.columns]
    return table.select(*map(quoted, names))


def started() -> Any:
    """The session. Raises Unreachable where there is none, as on a machine without Java."""
    try:
        return engine.start("spark")
    except UserError as error:
        raise Unreachable(str(error)) from error


def address(location: str, name: str) -> str:
    """The table's whole name, quoted."""
    return ".".join(map(quoted, [*filter(None, location.split(".")), name]))


def quoted(name: str) -> str:
    """A name in the quotes of Spark SQL."""
    return f"`{name.replace('`', '``')}`"


def is_delta(session: Any, place: str) -> bool:
    """Whether a table is one of Delta Lake."""
    about = session.sql(f"DESCRIBE TABLE EXTENDED {place}").collect()
    return any(row[0] == "Provider" and row[1].lower() == "delta" for row in about)


def require(session: Any, location: str, name: str) -> str:
    """The address of a table that is there. Raises UserError with the nearest name."""
    place = address(location, name)
    if not session.catalog.tableExists(place):
        schema = ".".join(map(quoted, filter(None, location.split("."))))
        tables = session.sql(f"SHOW TABLES{f' IN {schema}' if schema else ''}").collect()
        names = [row.tableName for row in tables]
        hint = nearest(name, names) or f"; it has {listed(sorted(names)) or 'none'}"
        raise UserError(f"{location or 'spark'}: no table {name!r}{hint}")
    return place


@contextmanager
def explained(location: str, name: str) -> Iterator[None]:
    """Raise Spark's errors in one line, Unreachable where a Connect server is away."""
    from pyspark.errors import PySparkException

    try:
        yield
    except PySparkException as error:
        away = "Grpc" in type(error).__name__
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise (Unreachable if away else UserError)(
            f"{location or 'spark'}: {name}: {one_line(lines[0])}"
        ) from None


def _table(session: Any, location: str, query: Query) -> Any:
    place = require(session, location, query.name)
    if query.version is None:
        return session.table(place)
    if not is_delta(session, place):
        raise UserError(f"{place}: found a version to read, but the table is none of Delta Lake")
    return session.sql(f"SELECT * FROM {place} VERSION AS OF {int(query.version)}")


def _state(session: Any, location: str, query: Query) -> str:
    from pyspark.sql import functions as F

    place = require(session, location, query.name)
    if is_delta(session, place):
        table = session.sql(f"DESCRIBE DETAIL {place}").collect()[0].id
        newest = session.sql(f"DESCRIBE HISTORY {place} LIMIT 1").collect()[0].version
        return f"version {newest if query.version is None else query.version} of {table}"
    rows = frame(session, location, query)
    # Spark hashes no maps.
    columns = [
        F.col(quoted(name)).cast("string") if "map<" in kind else F.col(quoted(name))
        for name, kind in rows.dtypes
    ]
    total = F.sum(F.xxhash64(*columns).cast("decimal(38,0)"))
    count, hashed = rows.agg(F.count(F.lit(1)), total).collect()[0]
    types = hashlib.sha256(repr(rows.dtypes).encode()).hexdigest()[:12]
    return f"{count} rows, hash {hashed}, columns {types}"


def _batches(rows: Any, location: str, name: str) -> Iterator[pa.RecordBatch]:
    with explained(location, name):
        yield from from_spark(rows)
