"""`mlops score`: score every row of a table with a bundle, in parts that are scored once.

One thread reads; as many as there are cores score and write, each with one thread of ONNX Runtime.
Each has one piece, and one waits for it: memory does not grow with the rows.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from mlops.base.errors import Refused, UserError

if TYPE_CHECKING:
    from mlops.data.engine import Engine
    from mlops.serving.batch.output import Receipt, Work
    from mlops.serving.batch.source import Source
    from mlops.serving.model import Model


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
    from mlops.serving.batch import source as sources
    from mlops.serving.batch import spark, table
    from mlops.serving.batch.output import Work, locked

    if not output.name:
        raise UserError(f"{output}: expected the name of a file or a folder to be written")
    loaded = model.load(bundle)
    with locked(output) as folder:
        rows = spark.find(source, folder, loaded) if engine == "spark" else sources.find(source)
        first = rows.files[0]
        table.require(rows.schema, loaded, first.label, text=first.text)
        job = {
            "model": loaded.card.name, "bundle": loaded.digest, "engine": engine,
            "rows_per_part": sources.ROWS, "input": rows.identity(),
        }  # fmt: skip
        work = Work(output, job)
        receipt = work.begin(rows.schema)
        if receipt:
            return receipt
        if engine == "spark":
            spark.score(bundle, rows, work)
        else:
            _score(loaded, rows, work, threads or len(os.sched_getaffinity(0)))
        if rows.identity() != job["input"]:
            raise UserError(f"{source}: changed while it was read; run it again")
        return work.finish()


def _score(model: Model, source: Source, work: Work, threads: int) -> None:
    """Score the pieces that are missing; the first failure ends it."""
    from rich.console import Console
    from rich.progress import track

    from mlops.serving.batch.source import ROWS

    spans = list(source.spans())
    # The rows of CSV are not known before they are read.
    total = None if spans[0].file.text else sum(max(1, -(-span.rows // ROWS)) for span in spans)
    pieces = (piece for span in spans for piece in span.pieces(source.schema))
    console = Console(file=sys.stderr)
    hidden = not console.is_terminal
    running = deque[Future[None]]()
    with ThreadPoolExecutor(threads, "score") as pool:
        for piece in track(pieces, "score", total, console=console, transient=True, disable=hidden):
            if piece.name in work.done:
                continue
            if len(running) == 2 * threads:
                running.popleft().result()
            running.append(pool.submit(work.score, model, piece))
        for future in running:
            future.result()


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
    if given.threads < 0:
        parser.error(f"argument --threads: found {given.threads}, expected 0 or more")
    start = time.perf_counter()
    receipt = run(given.bundle, given.input, given.output, given.engine, given.threads)
    line = f"{receipt.line} ({time.perf_counter() - start:.1f} s)"
    if receipt.refused and not receipt.rows:
        raise Refused(line)
    print(line)
