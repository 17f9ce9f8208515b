"""Ingest: read the raw tables, check them against their schemas, keep them as Parquet."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlops.base.errors import UserError
from mlops.base.files import whole_folder
from mlops.contract import project
from mlops.contract.paths import RAW
from mlops.contract.result import Result
from mlops.data import fingerprint, sources
from mlops.data.params import Params
from mlops.pipeline import stage

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

# Spark reads no nanoseconds.
FORMAT: dict[str, Any] = {
    "index": False,
    "coerce_timestamps": "us",
    "allow_truncated_timestamps": True,
}


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
    from mlops.data.validation import day_column, left_out, validated

    # Before the rows: what changes in between is read again the next time.
    state = fingerprint.run(params, root)
    schemas = project.tables(params.project)
    source, until = sources.source(params.data.source), params.data.until
    raw = source.read(params.data.location, schemas)
    with project.own_code(params.project, "tables"):
        tables = validated(raw, schemas)
    unknown = left_out(raw, tables)
    days = {name: day for name, schema in schemas.items() if (day := day_column(schema))}
    for name, day in days.items():
        column = tables[name][day]
        first, last = column.min().date(), column.max().date()
        expected = f"expected a day that {name}.{day} has: {first} to {last}"
        if until is None:
            raise UserError(f"params.yaml: data.until: missing; {expected}")
        tables[name] = tables[name][column.dt.date <= until]
        if tables[name].empty:
            raise UserError(f"params.yaml: data.until: found {until}, {expected}")
        _require_every_month(f"{name}.{day}", tables[name][day], until)
    since = min((tables[name][day].min().date() for name, day in days.items()), default=None)
    rows = {name: len(table) for name, table in tables.items()}
    result = Ingested(rows=rows, since=since, until=until, unknown=unknown, source=state)
    with whole_folder(root / RAW) as folder:
        for name, table in tables.items():
            _write(table, days.get(name), folder / name)
        result.save(folder)
    return result


def _require_every_month(column: str, days: pd.Series[Any], until: dt.date) -> None:
    import pandas as pd

    from mlops.data.validation import ranges

    found = set(days.dt.to_period("M"))
    lost = [str(m) for m in pd.period_range(min(found), until, freq="M") if m not in found]
    if lost:
        raise UserError(
            f"{column}: no rows in {', '.join(ranges(lost))}; expected every month "
            f"from {min(found)} to data.until, {until}"
        )


def _write(rows: pd.DataFrame, day: str | None, folder: Path) -> None:
    folder.mkdir()
    schema = _schema(rows)
    if day is None:
        rows.to_parquet(folder / "all.parquet", schema=schema, **FORMAT)
        return
    # A file a month: when a month arrives, the remote receives that month alone.
    for month, part in rows.groupby(rows[day].dt.strftime("%Y-%m"), sort=True):
        part.to_parquet(folder / f"{month}.parquet", schema=schema, **FORMAT)


def _schema(rows: pd.DataFrame) -> pa.Schema:
    """The types of the whole table, which a month of missing values has too."""
    import pyarrow as pa

    fields = pa.Schema.from_pandas(rows, preserve_index=False)
    # Only text can be missing everywhere and say nothing of its type.
    return pa.schema(
        [f.with_type(pa.string()) if pa.types.is_null(f.type) else f for f in fields],
        fields.metadata,
    )


if __name__ == "__main__":
    stage.main("ingest", run, Params)
