"""Raw tables as of a day, and whether the features of that day need no more than that.

As of a day, rows before it are whole. In rows from it on, the columns that a schema declares
outcomes are missing; of a table that is declared one itself, there are no such rows yet.

`python -m mlops.data.as_of DAYS` compares so many days of this folder's features; 0 is all.
"""

from __future__ import annotations

import argparse
import datetime as dt
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from mlops.base.errors import UserError
from mlops.contract import params, project
from mlops.contract.dataset import HOLDOUT, TRAINING
from mlops.contract.paths import FEATURES, RAW
from mlops.data import streaming
from mlops.data.feature_types import Typing, order, require_made
from mlops.data.ingest import Ingested
from mlops.data.params import Params
from mlops.data.raw import opened
from mlops.data.tables import Later, outcomes
from mlops.pipeline import lines, stage

if TYPE_CHECKING:
    import pyarrow as pa

ONE_DAY = dt.timedelta(days=1)
# Of DuckDB's session: the first day, the end of the last one, and the day as of which they are.
VARIABLES = ("first_day", "end_day", "known_day")


class Span(NamedTuple):
    """The days from `first` to `last`, as of the morning of `known`."""

    first: dt.date
    last: dt.date
    known: dt.date


def as_of(tables: Mapping[str, Any], later: Mapping[str, Later], moment: Any) -> dict[str, Any]:
    """The engine's tables as they were known at a timestamp, which is a column of the engine."""
    from pyspark.sql import functions as F

    known = dict(tables)
    for name, (column, columns) in later.items():
        before = F.col(column) < moment
        if columns is None:
            known[name] = tables[name].where(before)
        else:
            known[name] = tables[name].select(
                *(F.when(before, F.col(one)).alias(one) if one in columns else F.col(one)
                  for one in tables[name].columns)
            )  # fmt: skip
    return known


def stream(
    session: Any, spec: project.Features, tables: Mapping[str, Any], first: dt.date, last: dt.date
) -> tuple[pa.Schema, Iterator[pa.Table]]:
    """The features of some days, a few at a time, in the types and the order of training's."""
    from pyspark.sql import functions as F

    days = (F.lit(str(day)) for day in (first, last + ONE_DAY))
    return _typed(spec, *streaming.batches(session, _frame(spec, tables, *days), order(spec)))


def _frame(spec: project.Features, tables: Mapping[str, Any], first: Any, end: Any) -> Any:
    """The features from a day to before another one; both are columns of the engine."""
    from pyspark.sql import functions as F

    frame = spec.build(tables)
    require_made(frame.columns, spec)
    day = F.col(str(spec.day))
    within = (day >= first.cast("timestamp")) & (day < end.cast("timestamp"))
    return frame.select(*spec.columns).where(within)


def _typed(
    spec: project.Features, made: pa.Schema, batches: Iterable[pa.RecordBatch]
) -> tuple[pa.Schema, Iterator[pa.Table]]:
    typing = Typing(made, spec)

    def tables() -> Iterator[pa.Table]:
        yield from (typing.batch(table) for table in streaming.chunks(batches))
        typing.require_sound()

    return typing.schema, tables()


def reader(
    session: Any, spec: project.Features, raw: Mapping[str, Any], later: Mapping[str, Later]
) -> Callable[[Span], pa.Table]:
    """A function that gives the features of a span, as `stream` does, as of its day.

    DuckDB compiles the features once, whatever the days: they are variables of its session.
    """
    import pyarrow as pa
    from pyspark.sql import functions as F

    def build(first: Any, end: Any, known: Any) -> Any:
        return _frame(spec, as_of(raw, later, known.cast("timestamp")), first, end)

    def whole(made: pa.Schema, batches: Iterable[pa.RecordBatch]) -> pa.Table:
        schema, parts = _typed(spec, made, batches)
        return pa.concat_tables([schema.empty_table(), *parts])

    def built(span: Span) -> pa.Table:
        days = (F.lit(str(day)) for day in (span.first, span.last + ONE_DAY, span.known))
        return whole(*streaming.batches(session, build(*days), order(spec)))

    if not type(session).__module__.startswith("sqlframe"):
        return built
    import duckdb

    def choose(*days: object) -> None:
        for name, day in zip(VARIABLES, days, strict=True):
            session._conn.execute(f"SET VARIABLE {name} = '{day}'")

    # No days: a query that the project's code runs already now, and that depends on them, fails.
    choose(*VARIABLES)
    try:
        frame = build(*(F.expr(f"getvariable('{name}')") for name in VARIABLES))
        query = frame.orderBy(*order(spec)).sql(dialect="duckdb", optimize=False)
    except duckdb.ConversionException:
        return built

    def queried(span: Span) -> pa.Table:
        choose(span.first, span.last + ONE_DAY, span.known)
        return whole(*streaming.from_duckdb(session, query))

    return queried


def compare(
    session: Any,
    spec: project.Features,
    raw: Mapping[str, Any],
    later: Mapping[str, Later],
    folder: Path,
    count: int,
) -> int:
    """Compare the written features of `count` days, or of all for 0, with those as of each day.

    Gives how many days were compared: none where rows have no day, or no outcome is declared.
    Raises UserError for a feature that needs what is known only later, with key and values.
    """
    if spec.day is None or not later:
        return 0
    days, features = _days(spec.day, folder, count), reader(session, spec, raw, later)
    for day in days:
        found = features(Span(day, day, day))
        _require_unknown(spec, found, day)
        _require_same(spec, found, _written(spec.day, folder, day), day)
    return len(days)


def _days(column: str, folder: Path, count: int) -> list[dt.date]:
    """Days of the written features, spread evenly over them, the last one among them."""
    import pyarrow.parquet as pq

    found = {
        day.date()
        for part in (TRAINING, HOLDOUT)
        for day in pq.read_table(folder / part, columns=[column])[0].unique().to_pylist()
    }
    every = sorted(found)
    places = np.linspace(len(every) - 1, 0, min(count or len(every), len(every))).round()
    return [every[int(place)] for place in places]


def _written(column: str, folder: Path, day: dt.date) -> pa.Table:
    import pyarrow as pa
    import pyarrow.parquet as pq

    first, end = (dt.datetime.combine(one, dt.time()) for one in (day, day + ONE_DAY))
    within = [(column, ">=", first), (column, "<", end)]
    parts = [pq.read_table(folder / part, filters=within) for part in (TRAINING, HOLDOUT)]
    return pa.concat_tables(parts)


def _require_unknown(spec: project.Features, found: pa.Table, day: dt.date) -> None:
    """Raise UserError where the target is known as of the day itself: then all of it may leak."""
    known = found.filter(found.column(spec.target).is_valid())
    if len(known):
        key, value = known.column(spec.key)[0], known.column(spec.target)[0]
        raise UserError(
            f"features: {spec.target}: {key} of {day}: found {value} as of that day, expected it "
            'missing; declare the columns that it is made of in tables.py: metadata={"outcome": '
            "True}"
        )


def _require_same(spec: project.Features, found: pa.Table, written: pa.Table, day: dt.date) -> None:
    """Raise UserError for the first feature of a row that is another one as of its day."""
    import pyarrow.compute as pc

    found = found.filter(pc.is_in(found.column(spec.key), written.column(spec.key)))
    keys = written.column(spec.key).to_pylist()
    lost = set(keys) - set(found.column(spec.key).to_pylist())
    if lost:
        raise UserError(
            f"features: {spec.key}: {min(lost)} of {day}: no such row as of that day; rows must "
            "not depend on what is known only later"
        )
    for name in spec.features:
        before, after = _bits(found.column(name)), _bits(written.column(name))
        if (wrong := np.flatnonzero(before != after)).size:
            place = int(wrong[0])
            as_known, as_trained = (table.column(name)[place] for table in (found, written))
            raise UserError(
                f"features: {name}: {keys[place]} of {day}: found {as_known} as of that day, and "
                f"{as_trained} in training; a feature may not need what is known only later"
            )


def _bits(column: pa.ChunkedArray) -> Any:
    """The values such that equal bits are equal."""
    import pyarrow as pa

    if pa.types.is_floating(column.type):
        return column.to_numpy(zero_copy_only=False).astype("<f4").view("<i4")
    return np.array(column.to_pylist(), dtype=object)


def run(params: Params, root: Path, count: int) -> int:
    """Compare days of the features that were made of the raw tables here; gives how many."""
    # Pandera imports the real PySpark: before the engine takes its name.
    later = outcomes(project.tables(params.project))
    with opened(params, root / RAW, Ingested.load(root / RAW)) as (session, spec, raw):
        return compare(session, spec, raw, later, root / FEATURES, count)


def main(arguments: Sequence[str]) -> int:
    """Print how many days were compared; gives the exit code."""

    parser = argparse.ArgumentParser(
        prog="python -m mlops.data.as_of", description="Seek what leaks into the features.",
        allow_abbrev=False,
    )  # fmt: skip
    parser.add_argument("days", type=int, help="how many of them, spread evenly; 0 is all")
    count = parser.parse_args(arguments).days
    if count < 0:
        parser.error(f"argument days: found {count}, expected 0 or more")

    def command() -> None:
        days = run(params.load(Params), Path(), count)
        same = "features of one day are" if days == 1 else f"features of {days} days are"
        print(f"{same} those as of the day, bit by bit" if days else lines.NOTHING_COMPARED)

    return stage.guarded(command)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
