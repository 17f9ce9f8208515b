"""Predictions in a table of PostgreSQL, written by ADBC."""

from __future__ import annotations

import datetime as dt
from contextlib import closing
from typing import TYPE_CHECKING

from mlops.base.errors import UserError
from mlops.data.sinks import kept
from mlops.data.sources.database import database

if TYPE_CHECKING:
    import pyarrow as pa

WAIT = "60s"


def replace(location: str, name: str, day: dt.date, batches: pa.RecordBatchReader) -> None:
    """Replace the day in one transaction; the first write creates the table.

    `location` names an environment variable, as that of the source does. Of two that write at once
    one waits for the other, and is refused after a minute.
    """
    import sqlalchemy as sa

    store = database(location, "predict.location")
    if store.dialect.name != "postgresql":
        raise UserError(f"{store.place}: found {store.dialect.name}; predictions go to postgresql")
    table = sa.table(name, sa.column("day"), schema=store.schema)
    place = {"table_name": name, "db_schema_name": store.schema, "mode": "create_append"}
    with kept(batches, day) as rows, store.explained(), closing(store.connect()) as connection:
        lock = sa.func.pg_advisory_xact_lock(sa.func.hashtext(f"{store.schema}.{name}"))
        for statement in (
            sa.select(sa.func.set_config("lock_timeout", WAIT, True)),
            sa.select(lock),
        ):
            store.rows(connection, statement)
        with closing(connection.cursor()) as cursor:
            cursor.adbc_ingest(data=rows.schema.empty_table(), **place)
            store.execute(connection, sa.delete(table).where(table.c.day == day)).close()
            cursor.adbc_ingest(data=rows, **place)
        connection.commit()
