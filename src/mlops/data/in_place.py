"""Tables that stay where they lie: checked by Spark, batch by batch on its executors."""

from __future__ import annotations

import datetime as dt
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from mlops.base.errors import UserError
from mlops.data import columns
from mlops.data.failures import EXAMPLES, Failure, examples, explain
from mlops.data.sources import Query
from mlops.data.sources.spark import quoted
from mlops.data.streaming import chunks
from mlops.data.tables import references
from mlops.data.validation import Validator

if TYPE_CHECKING:
    import pyarrow as pa

    from mlops.data.tables import Schema

Frame = Callable[[Any, str, Query], Any]


def rows(frame: Frame, session: Any, location: str, query: Query) -> Any:
    """A table where it lies, without the rows after the last day known."""
    from pyspark.sql import functions as F

    table = frame(session, location, query)
    if query.day and query.until and query.day in table.columns:
        day = F.col(quoted(query.day))
        table = table.where((day < F.lit(query.until + dt.timedelta(days=1))) | day.isNull())
    return table


def checked(
    frames: Mapping[str, Any], queries: Mapping[str, Query], schemas: Mapping[str, Schema]
) -> dict[str, Validator]:
    """What was found of all tables; UserError lists every failure of every table."""
    made = {name: _table(frames[name], queries[name], schema) for name, schema in schemas.items()}
    failures = [one for table in made.values() for one in table.failures]
    if not failures:
        failures = [f for n, s in schemas.items() for f in _broken_references(n, s, frames)]
    if failures:
        raise UserError(explain(failures))
    return made


def pinned(query: Query, states: Mapping[str, str]) -> Query:
    """The query at the version that the source's state names, where it holds versions."""
    version = re.match(r"version (\d+) of ", states.get(query.name, ""))
    return replace(query, version=int(version[1]) if version else query.version)


def _table(frame: Any, query: Query, schema: Schema) -> Validator:
    """Check one table; the executors send what is wrong with their rows, and no rows."""
    from pyspark.sql.pandas.types import to_arrow_schema

    spec, name = schema.to_schema(), query.name
    if spec.parsers or any(column.parsers for column in spec.columns.values()):
        raise UserError(
            f"tables.py: {name}: found a parser, which changes rows; expected none where "
            "params.yaml: data.copy is false, as the features read the table as it is"
        )

    def parts(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        import pyarrow as pa

        part = Validator(name, schema, query.until)
        for rows in chunks(batches):
            part.batch(rows)
        yield pa.record_batch({"part": [json.dumps(part.summary(), default=int)]})

    table = Validator(name, schema, query.until)
    for row in frame.mapInArrow(parts, "part string").toLocalIterator():
        table.merge(json.loads(row[0]))
    if table.whole:
        raise UserError(
            f"tables.py: {name}: found a check that gives one answer for all rows, expected one "
            "for each where params.yaml: data.copy is false"
        )
    for failure in _other_types(name, spec, to_arrow_schema(frame.schema, timezone="UTC")):
        table.add(failure)
    for failure in _shared_keys(frame, table, spec):
        table.add(failure)
    return table


def _other_types(name: str, spec: Any, stored: pa.Schema) -> Iterator[Failure]:
    """Columns that are not stored as they are declared: the features would see other values."""
    from pyarrow import types

    for column, own in columns.declared(spec, stored.empty_table().to_pandas()).items():
        how = columns.kind(own)
        kinds = [stored.field(column).type, *([how.kept] if how else [])]
        for is_kind in (types.is_string, types.is_boolean, types.is_floating, types.is_integer):
            if len({is_kind(kind) for kind in kinds}) > 1:
                text = f"is stored as {kinds[-1]}"
                yield Failure(name, column, text, 0, (str(kinds[0]),))
                break


def _shared_keys(frame: Any, table: Validator, spec: Any) -> Iterator[Failure]:
    """Rows that share a key, and values of a unique column that are there twice."""
    from pyspark.sql import functions as F

    keys = [(list(table.key), "unique key")]
    keys += [([c], "field_uniqueness") for c, own in spec.columns.items() if own.unique]
    for key, check in keys:
        if not key or not set(key) <= set(frame.columns):
            continue
        rows = frame.dropna(subset=key) if check == "unique key" else frame
        shared = rows.groupBy(*map(quoted, key)).agg(F.count("*").alias("n")).where("n > 1")
        if total := shared.agg(F.sum("n")).collect()[0][0]:
            first = shared.orderBy(*map(quoted, key)).limit(EXAMPLES).toPandas()
            texts = first[key].astype(str).agg(" ".join, axis=1)
            yield Failure(table.name, ", ".join(key), check, int(total), examples(texts))


def _broken_references(name: str, schema: Schema, frames: Mapping[str, Any]) -> Iterator[Failure]:
    """Columns whose values another table has too seldom."""
    for column, (target, needed) in references(schema).items():
        other, key = target.split(".")
        if column not in frames[name].columns:
            continue
        values = frames[name].select(quoted(column)).toDF("value").dropna()
        known = frames[other].select(quoted(key)).toDF("value").dropna()
        lost = values.join(known, "value", "left_anti")
        rows = lost.count()
        if rows > (1 - needed) * values.count():
            first = lost.distinct().orderBy("value").limit(EXAMPLES).toPandas()["value"]
            yield Failure(name, column, f"{needed:.0%} are in {target}", rows, examples(first))
