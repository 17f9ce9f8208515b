"""The newest day that a source knows all of: how far `data.until` may move."""

from __future__ import annotations

import datetime as dt
from dataclasses import replace

from mlops.base.errors import UserError
from mlops.contract import params, project
from mlops.data import sources, tables
from mlops.data.params import Params
from mlops.data.streaming import chunks
from mlops.pipeline import stage


def newest(params: Params, today: dt.date | None = None) -> dt.date:
    """The last day that every dated table has rows of; yesterday at the latest."""
    from mlops.data.failures import explain
    from mlops.data.validation import Validator

    schemas = project.tables(params.project)
    source, data = sources.source(params.data.source), params.data
    last = []
    for query in tables.queries(schemas, data).values():
        if query.day:
            schema = schemas[query.name]
            # A parser of the schema's own may make the day of other columns.
            columns = None if schema.to_schema().parsers else (query.day,)
            rows = source.read(data.location, replace(query, columns=columns, until=None))
            table = Validator(query.name, schema, only=query.day)
            for batch in chunks(rows.batches):
                table.batch(batch)
            if table.failures:
                raise UserError(explain(table.failures))
            last.append(table.last)
    if not last:
        raise UserError(f"project {params.project}: no table has a day; say which: --until DAY")
    return min(*last, (today or dt.date.today()) - dt.timedelta(days=1))


def main() -> int:
    """Print the newest day of this folder's source; the exit code."""
    return stage.guarded(lambda: print(newest(params.load(Params))))


if __name__ == "__main__":
    raise SystemExit(main())
