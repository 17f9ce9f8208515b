"""`mlops score`: score every row of a table with a bundle, in parts that are scored once.

One thread reads; as many as there are cores score and write, each with one thread of ONNX Runtime.
Each has one piece, and one waits for it: memory does not grow with the rows.
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

# Pieces that have been read and wait, for each thread that scores.
AHEAD = 1


def run(
    bundle: Path, source: str, output: Path, engine: Engine = "duckdb", threads: int = 0
) -> Receipt:
    """Score `source` into `output`: a folder of Parquet files, or a file `*.csv`.

    `source` is a file, a folder or a pattern of Parquet or CSV, `FILE.duckdb:TABLE`, or with the
    engine `spark` a table's name. `threads` score, 0 for as many as there are cores. After an
    interruption the same call goes on where it was. Raises UserError when the input can't be
    scored, Refused when another process writes this output.
    """
    from mlops.serving import model

    if not output.name:
        raise UserError(f"{output}: expected the name of a file or a folder to be written")
    loaded = model.load(bundle)
    if engine == "spark":
        from mlops.serving.batch import spark

        return spark.run(loaded, bundle, source, output)
    return _run(loaded, source, output, threads or len(os.sched_getaffinity(0)))


def _run(model: Model, name: str, output: Path, threads: int) -> Receipt:
    from mlops.serving.batch import source as sources
    from mlops.serving.batch import table
    from mlops.serving.batch.output import Output
    from mlops.serving.batch.work import Work, open_work

    source = sources.find(name)
    table.require(source.schema, model, source.files[0].label, text=source.format.text)
    source.require_alike()
    job = _job(model, source)
    with open_work(Output(output), job) as work:
        if not isinstance(work, Work):
            return work
        with _bar(source.pieces, len(work.done)) as advance:
            _score(model, source, work, threads, advance)
        if source.identity() != job.input:
            raise UserError(f"{name}: changed while it was read; run it again")
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
            running.add(pool.submit(_piece, model, source.format.text, work, piece))
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
    refused = _refused(piece, scored.refused, scored.positions)
    work.write(piece.name, scored.table, refused, model.card.outputs)


def _refused(piece: Piece, refused: pa.Table, positions: Any) -> pa.Table:
    """The refused rows with file, number and reason, in the file's order."""
    import pyarrow as pa

    from mlops.serving.batch.work import ORIGIN

    numbers = pa.array(piece.rows[positions], type=pa.int64())
    reasons = refused.column("reason")
    malformed = pa.table({
        "row": pa.array([row.row for row in piece.malformed], type=pa.int64()),
        "reason": pa.array([row.reason for row in piece.malformed], type=pa.string()),
    })  # fmt: skip
    parsed = refused.drop_columns(["reason"]).append_column("row", numbers)
    parsed = parsed.append_column("reason", reasons)
    both = pa.concat_tables([parsed, malformed], promote_options="default").sort_by("row")
    file = pa.repeat(piece.file.label, len(both))
    taken = {*(field.name for field in ORIGIN), "reason"}
    kept = [name for name in both.column_names if name not in taken]
    return both.select(["row", "reason", *kept]).add_column(0, ORIGIN[0], file)


@contextmanager
def _bar(total: int | None, done: int) -> Iterator[Callable[[], None]]:
    """A progress bar on a terminal's standard error; the function yielded advances it."""
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
    parser.add_argument("--threads", type=int, default=0, help="that score; all cores by default")
    given = parser.parse_args(arguments)
    start = time.perf_counter()
    receipt = run(given.bundle, given.input, given.output, given.engine, given.threads)
    print(f"{receipt.line} ({time.perf_counter() - start:.1f} s)")
