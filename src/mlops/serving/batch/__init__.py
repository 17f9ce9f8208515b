"""`mlops score`: every row of a table scored by a bundle, in parts that are done once.

One thread reads, as many as there are cores score and write. What is in memory at any time are
some pieces for each of them, however many rows there are.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlops.base.errors import UserError

if TYPE_CHECKING:
    import pyarrow as pa

    from mlops.data.engine import Engine
    from mlops.serving.batch.output import Receipt
    from mlops.serving.batch.source import Piece, Source
    from mlops.serving.batch.work import Work
    from mlops.serving.model import Model

# Pieces that wait, read already, for each thread that scores.
AHEAD = 1


def run(
    bundle: Path, source: str, output: Path, engine: Engine = "duckdb", threads: int = 0
) -> Receipt:
    """Score what `source` names into `output`: a folder of Parquet files, or a file `*.csv`.

    `source` is a file, a folder or a pattern of Parquet or CSV, `FILE.duckdb:TABLE`, or with the
    engine `spark` a table's name. `threads` are all cores unless it is said how many. Interrupted,
    it goes on where it was when it is called again. Raises UserError when the input can't be
    scored, Refused when another process writes this output.
    """
    from mlops.serving.batch import trees

    if not output.name:
        raise UserError(f"{output}: expected the name of a file or a folder to be written")
    loaded = trees.load(bundle)
    if engine == "spark":
        from mlops.serving.batch import spark

        return spark.run(loaded, bundle, source, output)
    return _run(loaded, source, output, threads or len(os.sched_getaffinity(0)))


def _run(model: Model, said: str, output: Path, threads: int) -> Receipt:
    from mlops.serving.batch import source as sources
    from mlops.serving.batch import table
    from mlops.serving.batch.output import Output
    from mlops.serving.batch.work import Work, opened

    source = sources.find(said)
    table.require(source.schema, model, source.places[0].label, text=source.kind.text)
    source.require_alike()
    job = _job(model, source)
    with opened(Output(output), job) as work:
        if not isinstance(work, Work):
            return work
        with _bar(source.pieces, len(work.done)) as advance:
            _score(model, source, work, threads, advance)
        if source.identity() != job.input:
            raise UserError(f"{said}: changed while it was read; run it again")
        return work.finish()


def _job(model: Model, source: Source) -> Any:
    from mlops.serving.batch.output import Job
    from mlops.serving.batch.source import ROWS

    return Job(
        model=model.card.name, bundle=model.digest, engine="duckdb", rows_per_part=ROWS,
        input=source.identity(),
    )  # fmt: skip


def _score(
    model: Model, source: Source, work: Work, threads: int, advance: Callable[[], None]
) -> None:
    """Score the pieces that are missing; the first failure ends it."""
    running: set[Future[None]] = set()
    with ThreadPoolExecutor(threads, "score") as pool:
        for piece in source.missing(work.done):
            if len(running) >= threads * (1 + AHEAD):
                running = _some_done(running, advance)
            running.add(pool.submit(_piece, model, source.kind.text, work, piece))
        while running:
            running = _some_done(running, advance)


def _some_done(running: set[Future[None]], advance: Callable[[], None]) -> set[Future[None]]:
    ended, running = wait(running, return_when=FIRST_COMPLETED)
    for future in ended:
        future.result()
        advance()
    return running


def _piece(model: Model, text: bool, work: Work, piece: Piece) -> None:
    from mlops.serving.batch import table

    scored = table.scored(piece.table, model, text=text)
    refused = _refused(piece, scored.refused, scored.places)
    work.keep(piece.name, scored.table, refused, model.card.outputs)


def _refused(piece: Piece, refused: pa.Table, places: Any) -> pa.Table:
    """The rows that were refused, with where they are and why, in the file's order."""
    import pyarrow as pa

    from mlops.serving.batch.work import ORIGIN

    numbers = pa.array(piece.rows[places], type=pa.int64())
    said = refused.column("reason")
    lost = pa.table({
        "row": pa.array([row.row for row in piece.lost], type=pa.int64()),
        "reason": pa.array([row.reason for row in piece.lost], type=pa.string()),
    })  # fmt: skip
    known = refused.drop_columns(["reason"]).append_column("row", numbers)
    known = known.append_column("reason", said)
    both = pa.concat_tables([known, lost], promote_options="default").sort_by("row")
    file = pa.repeat(piece.place.label, len(both))
    taken = {*(field.name for field in ORIGIN), "reason"}
    kept = [name for name in both.column_names if name not in taken]
    return both.select(["row", "reason", *kept]).add_column(0, ORIGIN[0], file)


@contextmanager
def _bar(total: int | None, done: int) -> Iterator[Callable[[], None]]:
    """A transient bar on standard error, silent where nobody looks; call to advance it."""
    from rich.console import Console
    from rich.progress import Progress

    console = Console(file=sys.stderr)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("score", total=total, completed=done)
        yield lambda: progress.advance(task)


def main(arguments: Sequence[str]) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="mlops score", description="Score a table with a bundle.", allow_abbrev=False
    )
    parser.add_argument("bundle", type=Path, help="a bundle's folder")
    parser.add_argument("--input", required=True,
                        help="a file, folder or pattern of Parquet or CSV, FILE.duckdb:TABLE, or "
                        "with --engine spark a table")  # fmt: skip
    parser.add_argument("--output", type=Path, required=True,
                        help="a folder for Parquet files, or a file *.csv")  # fmt: skip
    parser.add_argument("--engine", choices=["duckdb", "spark"], default="duckdb")
    parser.add_argument("--threads", type=int, default=0, help="all cores unless said")
    told = parser.parse_args(arguments)
    start = time.perf_counter()
    receipt = run(told.bundle, told.input, told.output, told.engine, told.threads)
    print(f"{receipt.line} ({time.perf_counter() - start:.1f} s)")
