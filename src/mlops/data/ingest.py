"""Ingest: read the raw tables, check them against their schemas, keep them as Parquet."""

from __future__ import annotations

import datetime as dt
import shutil
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlops.base.errors import UserError
from mlops.base.files import whole_folder
from mlops.contract import project
from mlops.contract.paths import RAW
from mlops.contract.result import Result
from mlops.data import fingerprint, sources, tables
from mlops.data.params import Params
from mlops.data.streaming import ROWS, Parquet, database, quoted
from mlops.pipeline import stage

if TYPE_CHECKING:
    from mlops.data.staging import Staged
    from mlops.data.validation import Validator


class Ingested(Result):
    """Rows kept of each table, the first day of any and the last one known, columns left out, the
    source's state."""

    rows: dict[str, int]
    since: dt.date | None
    until: dt.date | None
    unknown: list[str]
    source: dict[str, str]


def run(params: Params, root: Path) -> Ingested:
    """Write a folder of Parquet files per table, a file a month where the table has days."""
    from mlops.data.staging import Staging

    # Before the rows: what changes in between is read again the next time.
    state = fingerprint.run(params, root)
    schemas = project.tables(params.project)
    source, data = sources.source(params.data.source), params.data
    queries = tables.queries(schemas, data)
    with whole_folder(root / RAW) as folder:
        (aside := folder / ".staged").mkdir()
        with database(aside) as engine:
            read = partial(source.read, data.location)
            staged = Staging(read, params.project, engine, aside).tables(queries, schemas)
            for name, table in staged.items():
                _require_every_month(name, table.validator)
            for name, table in staged.items():
                _write(table, engine, folder / name)
        shutil.rmtree(aside)
        dated = [table.validator.first for table in staged.values() if table.validator.day]
        result = Ingested(
            rows={name: table.validator.kept for name, table in staged.items()},
            since=min(dated, default=None),
            until=data.until,
            unknown=[column for table in staged.values() for column in table.left_out],
            source=state,
        )
        result.save(folder)
    return result


def _require_every_month(name: str, table: Validator) -> None:
    """Raise UserError where a table has no row up to the last day known, or a month without."""
    import pandas as pd

    from mlops.data.validation import ranges

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


def _write(table: Staged, engine: Any, folder: Path) -> None:
    """Write the rows ordered by day and key, or by all that they hold, whatever came first."""
    import pyarrow as pa

    folder.mkdir()
    validator, names = table.validator, table.schema.names
    order = dict.fromkeys([name for name in (validator.day, *(validator.key or names)) if name])
    columns = ", ".join(quoted(name) for name in order if name in table.present)
    rows = engine.sql(f"SELECT {table.select} FROM {table.place} ORDER BY {columns}")
    batches = rows.to_arrow_reader(ROWS // 2)
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
