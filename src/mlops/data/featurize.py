"""Featurize: run the project's PySpark code on the raw tables, and set the holdout apart."""

from __future__ import annotations

import datetime as dt
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlops.base.errors import UserError
from mlops.base.files import whole_folder
from mlops.contract import dataset, project
from mlops.contract.dataset import HOLDOUT, TRAINING, names
from mlops.contract.paths import FEATURES, RAW, not_found
from mlops.contract.result import Result
from mlops.data import as_of, engine, streaming
from mlops.data.feature_types import LARGEST_WHOLE, Typing, order, require_made
from mlops.data.ingest import Ingested
from mlops.data.params import Params
from mlops.data.raw import raw_tables
from mlops.data.streaming import CHUNK_ROWS, Parquet, parquet, quoted
from mlops.data.tables import outcomes
from mlops.pipeline import stage

if TYPE_CHECKING:
    import pyarrow as pa

# Days whose features are compared with those as of the day: each costs as much as all do.
DAYS = 1
# A regression has more values than these that only its holdout has.
MOST_UNSEEN = 5


class Featurized(Result):
    """Rows of each part, what was left out and why, null shares and the target's mean.

    `rounded`: of how many different values of a feature float32 keeps how many. `unseen`: the
    target's values that only the holdout has, where they may be classes.
    `unused_tables` are the raw tables that the project's features did not look at. Of so many days
    (`days_compared`) the features were compared with those as of the day.
    """

    rows: dict[str, int]
    dropped: dict[str, int]
    days: dict[str, tuple[dt.date, dt.date]]
    null_share: dict[str, float]
    target_mean: dict[str, float]
    features: int
    rounded: dict[str, tuple[int, int]]
    unseen: tuple[str, ...]
    unused_tables: tuple[str, ...] = ()
    days_compared: int = 0


class Part:
    """One part of the feature table while it is written, and what is counted of it."""

    def __init__(self, path: Path, schema: pa.Schema, spec: project.Features) -> None:
        self.file, self.spec = Parquet(path, schema), spec
        self.rows, self.total, self.nulls = 0, 0.0, Counter[str]()
        # The least and the largest.
        self.outcomes: tuple[Any, ...] = ()
        self.days: tuple[Any, ...] = ()

    def write(self, rows: pa.Table) -> None:
        """Write rows, and count them."""
        import pyarrow.compute as pc

        if not len(rows):
            return
        target = rows.column(self.spec.target)
        self.file.write(rows)
        self.rows += len(rows)
        self.nulls.update({name: rows.column(name).null_count for name in self.spec.features})
        self.outcomes = _span(self.outcomes, target)
        if self.spec.day:
            self.days = _span(self.days, rows.column(self.spec.day))
        if self.is_counted:
            self.total += pc.sum(target).as_py()

    @property
    def is_counted(self) -> bool:
        """Whether the target is a number."""
        import pyarrow as pa

        return not pa.types.is_string(self.file.schema.field(self.spec.target).type)


def _span(known: tuple[Any, ...], values: pa.ChunkedArray) -> tuple[Any, ...]:
    """The least and the largest of the values and of those known."""
    import pyarrow.compute as pc

    every = [*known, *pc.min_max(values).as_py().values()]
    return min(every), max(every)


def run(params: Params, root: Path) -> Featurized:
    """Write `training.parquet` and `holdout.parquet`, rows ordered by day and key."""
    if not (root / RAW).is_dir():
        raise UserError(not_found(root / RAW))
    ingested = Ingested.load(root / RAW)
    with whole_folder(root / FEATURES) as folder:
        (aside := folder / ".staged").mkdir()
        session = engine.start(params.engine)
        if params.engine == "duckdb":
            streaming.limit(session._conn, aside)
        raw = raw_tables(session, root / RAW, ingested)
        # Pandera imports the real PySpark.
        later = outcomes(project.tables(params.project))
        project.forget(params.project)
        with engine.engine_as_pyspark(params.engine):
            spec = project.features(params.project)
            with project.own_code(params.project, "features"):
                frame = spec.build(raw)
                streaming.require_frame(frame)
                try:
                    require_made(frame.columns, spec)
                except UserError:
                    # What the engine says of columns that it does not know comes first.
                    frame.limit(0).toArrow()
                    raise
            # Whoever compares days looks at every table.
            unused = tuple(raw.unused)
            result = _write(params, spec, session, frame, ingested.until, folder)
            with project.own_code(params.project, "features"):
                days = as_of.compare(session, spec, raw, later, folder, DAYS)
        shutil.rmtree(aside)
        result = result.model_copy(update={"unused_tables": unused, "days_compared": days})
        result.save(folder)
    return result


def _write(
    params: Params,
    spec: project.Features,
    session: Any,
    frame: Any,
    until: dt.date | None,
    folder: Path,
) -> Featurized:
    """Write both parts of the features as they come from the engine, and check them."""
    import pyarrow as pa
    import pyarrow.compute as pc

    held_out, place = _held_out(spec, params, until)
    with project.own_code(params.project, "features"):
        made, rows = streaming.batches(session, frame.select(*spec.columns), order(spec))
    typing = Typing(made, spec)
    paths = {"training": folder / TRAINING, "holdout": folder / HOLDOUT}
    parts = {name: Part(path, typing.schema, spec) for name, path in paths.items()}
    others = folder / ".staged/without-outcome.parquet"
    unknown = 0
    with ExitStack() as stack:
        for part in parts.values():
            stack.enter_context(part.file)
        keys = stack.enter_context(Parquet(others, pa.schema([typing.schema.field(spec.key)])))
        for table in streaming.chunks(_own(rows, params.project), CHUNK_ROWS):
            typed = typing.batch(table)
            is_known = pc.is_valid(typed.column(spec.target))
            unknown += pc.sum(pc.invert(is_known)).as_py() or 0
            keys.write(typed.filter(pc.invert(is_known)).select([spec.key]))
            if not len(known := typed.filter(is_known)):
                continue
            is_held_out = held_out(known)
            parts["training"].write(known.filter(pc.invert(is_held_out)))
            parts["holdout"].write(known.filter(is_held_out))
    typing.require_sound()
    with streaming.database(folder / ".staged") as database:
        require_unique(database, spec.key, [*paths.values(), others])
        _require_outcomes(parts, spec, place)
        unseen = database.execute(
            f"SELECT DISTINCT {quoted(spec.target)} AS outcome FROM {parquet(paths['holdout'])} "
            f"EXCEPT SELECT {quoted(spec.target)} FROM {parquet(paths['training'])} "
            f"ORDER BY outcome::VARCHAR LIMIT {MOST_UNSEEN}"
        ).df()["outcome"]
    training = parts["training"]
    return Featurized(
        rows={name: part.rows for name, part in parts.items()},
        dropped={"without an outcome": unknown},
        days={n: (p.days[0].date(), p.days[1].date()) for n, p in parts.items() if spec.day},
        null_share={f: round(training.nulls[f] / training.rows, 6) for f in spec.features},
        target_mean={n: round(p.total / p.rows, 6) for n, p in parts.items() if p.is_counted},
        features=len(spec.features),
        rounded=_rounded(frame, typing),
        unseen=tuple(sorted(names(unseen))),
    )


def _own(rows: Iterator[pa.RecordBatch], name: str) -> Iterator[pa.RecordBatch]:
    """The rows; what the engine refuses to compute is a mistake in the project's features."""
    with project.own_code(name, "features"):
        yield from rows


def _held_out(
    spec: project.Features, params: Params, until: dt.date | None
) -> tuple[Callable[[pa.Table], pa.Array], str]:
    """Which rows of a table are held out, and how a refusal of it begins."""
    import pyarrow as pa
    import pyarrow.compute as pc

    days, share = params.split.holdout_days, params.split.holdout_share
    if spec.day is None:
        by = spec.group or spec.key

        def by_hash(rows: pa.Table) -> pa.Array:
            import pandas as pd

            values = pd.Series(list(map(str, rows.column(by).to_pylist())), dtype=object)
            return pa.array(dataset.share(values, "holdout") < share)

        return (
            by_hash,
            f"params.yaml: split.holdout_share: found {share:g}; a holdout by a hash of {by}",
        )
    if until is None:
        raise UserError(f"params.yaml: data.until: missing; expected the last known {spec.day}")
    first = until - dt.timedelta(days=days - 1)
    place = f"params.yaml: split.holdout_days: found {days}; a holdout from {first} to {until}"
    start = pa.scalar(first).cast(pa.timestamp("ms"))
    return lambda rows: pc.greater_equal(rows.column(spec.day), start), place


def _rounded(frame: Any, typing: Typing) -> dict[str, tuple[int, int]]:
    """The features of which float32 keeps fewer different values: how many of how many."""
    from pyspark.sql import functions as F

    # Smaller whole numbers are exact.
    large = [name for name, most in typing.largest.items() if most > LARGEST_WHOLE]
    if not large:
        return {}
    columns = [c for n in large for c in (F.col(n).cast("double").cast("float"), F.col(n))]
    counts = [F.countDistinct(c).alias(f"c{number}") for number, c in enumerate(columns)]
    ((*found,),) = frame.agg(*counts).collect()
    pairs = zip(large, found[::2], found[1::2], strict=True)
    return {name: (after, before) for name, after, before in pairs if after < before}


def require_unique(database: Any, key: str, files: list[Path]) -> None:
    """Raise UserError for rows that share a key, those without an outcome too."""
    rows, example = database.execute(
        f"SELECT sum(n - 1)::BIGINT, min(key) FROM (SELECT {quoted(key)} AS key, count(*) AS n "
        f"FROM {parquet(*files)} GROUP BY 1 HAVING n > 1)"
    ).fetchall()[0]
    if rows:
        raise UserError(f"features: {key}: {rows} rows share a key, such as {example!r}")


def _require_outcomes(parts: dict[str, Part], spec: project.Features, place: str) -> None:
    """Raise UserError for a table, or a part of it, without two different outcomes."""
    every = sorted({outcome for part in parts.values() for outcome in part.outcomes})
    if len(every) < 2:
        found = f"only {every[0]}" if every else "no outcome"
        raise UserError(
            f"features: {spec.target}: found {found}, expected at least two different outcomes"
        )
    for name, part in parts.items():
        if not part.rows:
            raise UserError(f"{place} leaves the {name} part without rows")
        if part.outcomes[0] == part.outcomes[1]:
            raise UserError(
                f"{place} leaves the {name} part with one outcome of {spec.target}, "
                f"{part.outcomes[0]}, expected at least two"
            )


if __name__ == "__main__":
    stage.main("featurize", run, Params)
