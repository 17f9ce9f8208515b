"""Rows whose outcomes nobody knows yet: their features as of now, from the source as it is now."""

from __future__ import annotations

import datetime as dt
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from mlops.base.errors import UserError
from mlops.base.files import alone
from mlops.contract import project
from mlops.data import engine, ingest, tables
from mlops.data.as_of import ONE_DAY, Span, reader
from mlops.data.failures import Failure, explain
from mlops.data.params import Params
from mlops.data.raw import Tables, opened, raw_tables
from mlops.data.tables import Later, outcomes

if TYPE_CHECKING:
    import pyarrow as pa

    from mlops.data.tables import Schema

FOLDER = Path(".run/coming")
# From this share of a day's usual outcomes on, those that are missing are not worth a note.
WHOLE = 0.9
# Types with missing values of those that have none.
NULLABLE = {"int64": "Int64", "int32": "Int32", "int16": "Int16", "int8": "Int8", "bool": "boolean"}


class NothingComing(UserError):
    """The source has no rows whose outcomes are not known."""


@dataclass(frozen=True)
class Coming:
    """The source's raw tables, checked; outcomes are known up to the day `known`, rows are there
    up to the day `last`. `share` are the outcomes of the day `known` against those of others."""

    params: Params
    folder: Path
    ingested: ingest.Ingested
    later: Mapping[str, Later]
    known: dt.date
    last: dt.date
    share: float

    @property
    def note(self) -> str:
        """What is to be said of the day `known`; "" where its outcomes are as many as usual."""
        if self.share >= WHOLE:
            return ""
        return f"; {self.known} has only {self.share:.0%} of a day's outcomes, the rest are missing"

    def days(self, first: dt.date | None, last: dt.date | None) -> list[dt.date]:
        """The days from `first` to `last`; by default those after the last known outcomes.

        Raises NothingComing where there is none, or no row can be of them.
        """
        start, end = first or self.known + ONE_DAY, last or self.last
        if start > end:
            found = f"outcomes are known to {self.known}, rows are there to {self.last}"
            raise NothingComing(f"no day from {start} to {end} to predict: {found}")
        if start > self.last:
            raise self.no_rows(start, end)
        return [start + dt.timedelta(days=n) for n in range((end - start).days + 1)]

    def no_rows(self, first: dt.date, last: dt.date) -> NothingComing:
        """What to raise for days without rows."""
        return NothingComing(
            f"no rows from {first} to {last}; the source's last are of {self.last}"
        )

    @contextmanager
    def opened(self) -> Iterator[tuple[Any, project.Features, Tables]]:
        """The session, the declared roles and the raw tables; raises NothingComing without days."""
        with opened(self.params, self.folder, self.ingested) as (session, spec, raw):
            if spec.day is None:
                found = "features.py has no DAY; every row is known at once"
                raise NothingComing(f"{self.params.project}: {found}")
            yield session, spec, raw

    def features(self, spans: Iterable[Span]) -> Iterator[tuple[project.Features, pa.Table]]:
        """The declared roles, and the features of each span in turn."""
        with self.opened() as (session, spec, raw):
            yield from ((spec, made) for made in map(reader(session, spec, raw, self.later), spans))


@contextmanager
def refreshed(params: Params, root: Path) -> Iterator[Coming]:
    """Read the source as it is now, and check it; other processes wait until the context ends.

    After `data.until` outcomes may be missing. Raises NothingComing where no table has days and
    outcomes, and UserError for anything else that is wrong.
    """
    schemas = project.tables(params.project)
    later = outcomes(schemas)
    if not later:
        raise NothingComing(
            f"src/{params.project}/tables.py: no column of a table with days is an outcome; "
            'declare those that are known only later: metadata={"outcome": True}'
        )
    queries = tables.queries(schemas, to_the_last_day(params).data)
    relaxed = {name: _without_outcomes(schemas[name], later.get(name)) for name in schemas}
    (root / FOLDER).mkdir(parents=True, exist_ok=True)
    with alone(root / FOLDER):
        folder = root / FOLDER / "tables"
        # What a killed process left.
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        try:
            result = ingest.ingested(params, queries, relaxed, folder, lambda name, table: None)
            session = engine.start(params.engine)
            with engine.engine_as_pyspark(params.engine):
                raw = raw_tables(session, folder, result)
                _require_outcomes(raw, schemas, later, params.data.until)
                until = params.data.until
                days = [_days(name, raw[name], one, until) for name, one in later.items()]
            (known, share), last = min(one for one, _ in days), max(one for _, one in days)
            yield Coming(params, folder, result, later, known, last, share)
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def to_the_last_day(params: Params) -> Params:
    """The parameters with which the source is asked for all of its days."""
    data = params.data.model_copy(update={"until": None})
    return params.model_copy(update={"data": data})


def _without_outcomes(schema: Schema, later: Later | None) -> Any:
    """The schema with outcomes that may be missing."""
    made = schema.to_schema()
    changes: dict[str, Any] = {}
    for name in (later and later.columns) or ():
        kind = str(made.columns[name].dtype)
        changes[name] = {"nullable": True, "dtype": NULLABLE.get(kind, made.columns[name].dtype)}
    relaxed = made.update_columns(changes) if changes else made
    return SimpleNamespace(Config=schema.Config, to_schema=lambda: relaxed)


def _require_outcomes(
    raw: Mapping[str, Any],
    schemas: Mapping[str, Schema],
    later: Mapping[str, Later],
    until: dt.date | None,
) -> None:
    """Raise UserError for outcomes that are missing up to the last day known."""
    from pyspark.sql import functions as F

    failures = []
    for name, (day, columns) in later.items():
        own = schemas[name].to_schema().columns
        for column in columns or ():
            if until and not own[column].nullable:
                early = F.col(day) < F.lit(str(until + ONE_DAY)).cast("timestamp")
                rows = raw[name].where(early & F.col(column).isNull()).count()
                if rows:
                    check = f"no missing values up to {until}"
                    failures.append(Failure(name, column, check, rows, ("missing",)))
    if failures:
        raise UserError(explain(failures))


def _days(
    name: str, table: Any, later: Later, until: dt.date | None
) -> tuple[tuple[dt.date, float], dt.date]:
    """The last day whose outcomes are known, with their share, and the last day of any row.

    Known is a day that has at least half as many outcomes, for its rows, as days up to `until`
    have: one that a timetable has already does not make its day known.
    """
    from pyspark.sql import functions as F

    filled = F.lit(1.0 if later.columns is None else 0.0)
    for column in later.columns or ():
        filled = filled + F.when(F.col(column).isNotNull(), 1.0).otherwise(0.0)
    rows = table.select(F.col(later.day).cast("date").alias("day"), filled.alias("filled"))
    found = rows.groupBy("day").agg(F.avg("filled").alias("filled")).collect()
    days = {day: float(share) for day, share in found}
    usual = [share for day, share in days.items() if share and (not until or day <= until)]
    mean = sum(usual) / len(usual) if usual else max(days.values(), default=0.0)
    known = [day for day, share in days.items() if share and share >= mean / 2]
    if not known:
        raise UserError(f"{name}: no row has an outcome yet")
    return (max(known), days[max(known)] / mean), max(days)
