"""Ingest: read the raw tables, check them against their schemas, keep them as Parquet."""

from __future__ import annotations

import datetime as dt
import shutil
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlops.base.errors import UserError
from mlops.base.files import whole_folder
from mlops.contract import project
from mlops.contract.paths import RAW
from mlops.contract.result import Result
from mlops.data import engine, fingerprint, sources, tables
from mlops.data.params import IN_PLACE, Params
from mlops.data.sources import Query
from mlops.data.streaming import CHUNK_ROWS, Parquet, database, quoted
from mlops.pipeline import stage

if TYPE_CHECKING:
    from mlops.data.staging import Staged
    from mlops.data.tables import Schema
    from mlops.data.validation import Validator


class Ingested(Result):
    """Rows kept of each table, the first day of any and the last one known, columns left out, the
    source's state. `in_place` is what to ask of the source at `location`, where nothing is copied.
    """

    rows: dict[str, int]
    since: dt.date | None
    until: dt.date | None
    unknown: list[str]
    source: dict[str, str]
    location: str = ""
    in_place: tuple[Query, ...] = ()


def run(params: Params, root: Path) -> Ingested:
    """Write a folder of Parquet files per table, a file a month where the table has days.

    Where nothing is copied, only what is to be asked of the source is written.
    """
    from mlops.data.in_place import pinned

    # Before the rows: what changes in between is read again the next time.
    state = fingerprint.run(params, root)
    schemas = project.tables(params.project)
    queries = tables.queries(schemas, params.data)
    if not params.data.copied:
        queries = {name: pinned(query, state) for name, query in queries.items()}
    with whole_folder(root / RAW) as folder:
        result = ingested(params, queries, schemas, folder, _require_every_month)
        result = result.model_copy(update={"source": state})
        result.save(folder)
    return result


def ingested(
    params: Params,
    queries: dict[str, Query],
    schemas: dict[str, Schema],
    folder: Path,
    require: Callable[[str, Validator], None],
) -> Ingested:
    """Check the tables against their schemas and by `require`; copy them where that is asked."""
    make = _copied if params.data.copied else _in_place
    found, others = make(params, queries, schemas, folder, require)
    dated = [table for table in found.values() if table.day]
    result = Ingested(
        rows={name: table.kept for name, table in found.items()},
        since=min((table.first for table in dated), default=None),
        until=params.data.until,
        unknown=others,
        source={},
    )
    if params.data.copied:
        return result
    asked = [replace(queries[name], columns=tuple(t.types)) for name, t in found.items()]
    update = {"location": params.data.location, "in_place": tuple(asked)}
    return result.model_copy(update=update)


def _copied(
    params: Params,
    queries: dict[str, Query],
    schemas: dict[str, Schema],
    folder: Path,
    require: Callable[[str, Validator], None],
) -> tuple[dict[str, Validator], list[str]]:
    """Write the tables; what was found of each, and the columns that are in no schema."""
    from mlops.data.staging import Staging

    read = partial(sources.source(params.data.source).read, params.data.location)
    (aside := folder / ".staged").mkdir()
    with database(aside) as connection:
        staged = Staging(read, params.project, connection, aside).tables(queries, schemas)
        for name, table in staged.items():
            require(name, table.validator)
        for name, table in staged.items():
            _write(table, connection, folder / name)
    shutil.rmtree(aside)
    others = [column for table in staged.values() for column in table.left_out]
    return {name: table.validator for name, table in staged.items()}, others


def _in_place(
    params: Params,
    queries: dict[str, Query],
    schemas: dict[str, Schema],
    folder: Path,
    require: Callable[[str, Validator], None],
) -> tuple[dict[str, Validator], list[str]]:
    """Check the tables where they lie; what was found of each, and the columns in no schema."""
    from mlops.data import in_place
    from mlops.data.failures import ranges

    session, frame = engine.start(params.engine), sources.frame(IN_PLACE)
    frames = {
        name: in_place.rows(frame, session, params.data.location, query)
        for name, query in queries.items()
    }
    found = in_place.checked(frames, queries, schemas)
    others = []
    for name, table in found.items():
        require(name, table)
        own = frames[name].columns
        others += [f"{name}.{c}" for c in ranges(c for c in own if c not in table.types)]
    return found, others


def _require_every_month(name: str, table: Validator) -> None:
    """Raise UserError where a table has no row up to the last day known, or a month without."""
    import pandas as pd

    from mlops.data.failures import ranges

    if table.day is None:
        return
    column, months, until = f"{name}.{table.day}", table.months, table.until
    expected = f"expected a day that {column} has: {table.first} to {table.last}"
    if until is None:
        raise UserError(f"params.yaml: data.until: missing; {expected}")
    if not months:
        raise UserError(f"params.yaml: data.until: found {until}, {expected}")
    expected_months = map(str, pd.period_range(min(months), until, freq="M"))
    if lost := [month for month in expected_months if month not in months]:
        raise UserError(
            f"{column}: no rows in {', '.join(ranges(lost))}; expected every month "
            f"from {min(months)} to data.until, {until}"
        )


def _write(table: Staged, connection: Any, folder: Path) -> None:
    """Write the rows ordered by day and key, or by all that they hold, whatever came first."""
    import pyarrow as pa

    folder.mkdir()
    validator, names = table.validator, table.schema.names
    order = dict.fromkeys([name for name in (validator.day, *(validator.key or names)) if name])
    columns = ", ".join(quoted(name) for name in order if name in table.present)
    rows = connection.sql(f"SELECT {table.select} FROM {table.place} ORDER BY {columns}")
    batches = rows.to_arrow_reader(CHUNK_ROWS)
    # A file a month: when a month arrives, the remote receives that month alone.
    parts = sorted(validator.months.items()) if validator.day else [("all", validator.kept)]
    batch = next(batches)
    for name, left in parts:
        with Parquet(folder / f"{name}.parquet", table.schema) as file:
            while left:
                batch = batch if batch.num_rows else next(batches)
                part = batch.slice(0, left)
                batch, left = batch.slice(part.num_rows), left - part.num_rows
                file.write(pa.Table.from_batches([part]))


if __name__ == "__main__":
    stage.main("ingest", run, Params)
