"""`mlops score`: add a bundle's outputs to every row of a table, in the table's order.

One thread reads; as many as there are cores score, each with one thread of ONNX Runtime. Each has
one batch, and one waits for it: memory does not grow with the rows.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from mlops.base.errors import Refused, UserError, one_line
from mlops.base.files import whole_file

if TYPE_CHECKING:
    import pyarrow as pa

    from mlops.serving.model import Model

ROWS = 2**16
ENDINGS = (".parquet", ".csv")
# A source names the settings that it is usually given by; here they are options.
OPTIONS = {"params.yaml: data.source": "--source", "params.yaml: data.location": "--input"}


class Scored(NamedTuple):
    """Rows that were scored and that were refused, by which bundle, and where they are."""

    rows: int
    refused: int
    bundle: str
    output: Path

    @property
    def line(self) -> str:
        """The result in one line."""
        refused = f", {self.refused:,} refused (column `refused`)" if self.refused else ""
        return f"bundle {self.bundle[:12]}: {self.rows:,} rows scored{refused}: {self.output}"


def run(
    bundle: Path, location: str, output: Path, *, kind: str = "files", replace: bool = False
) -> Scored:
    """Score a table into `output`, a file `*.parquet` or `*.csv`.

    `location` is that of a source of this kind, `/` and the table's name. The output has the
    table's columns, the bundle's outputs and `refused`: why a row has none. Raises UserError when
    the table can't be scored, or the output is there already, unless it may `replace` it.
    """
    from mlops.data.sources import Query, source
    from mlops.serving import model

    if not output.name.endswith(ENDINGS):
        raise UserError(f"{output}: expected a name that ends in {' or '.join(ENDINGS)}")
    if output.exists() and not replace:
        raise UserError(f"{output}: found something there, expected a new name or --replace")
    loaded = model.load(bundle)
    # What is no location stands before the last slash: this folder, or that of the system.
    before, slash, name = location.rstrip("/").rpartition("/")
    try:
        found = source(kind).read(before or slash or ".", Query(name))
    except UserError as error:
        text = str(error)
        for setting, option in OPTIONS.items():
            text = text.replace(setting, option)
        raise UserError(text) from None
    with whole_file(output) as partial:
        rows, refused = _write(scored(found.batches, loaded, location), partial, output)
    return Scored(rows, refused, loaded.digest, output)


def scored(
    batches: Iterable[pa.RecordBatch], model: Model, where: str
) -> Iterator[tuple[pa.Table, int]]:
    """Each batch with the model's outputs and `refused`, in order, and how many were refused.

    Raises UserError, naming the table `where`, for columns that the model can't read.
    """
    import pyarrow as pa

    from mlops.serving.batch import table

    def pieces() -> Iterator[Callable[[], tuple[pa.Table, int]]]:
        schema = None
        for batch in batches:
            if batch.schema != schema:
                table.require(schema := batch.schema, model, where)
            for first in range(0, max(batch.num_rows, 1), ROWS):
                piece = pa.Table.from_batches([batch.slice(first, ROWS)])
                yield lambda piece=piece: table.score(piece, model)  # type: ignore[misc]

    threads = len(os.sched_getaffinity(0))
    running = deque[Future[tuple[pa.Table, int]]]()
    with ThreadPoolExecutor(threads, "score") as pool:
        for piece in pieces():
            if len(running) == 2 * threads:
                yield running.popleft().result()
            running.append(pool.submit(piece))
        while running:
            yield running.popleft().result()


def _write(tables: Iterable[tuple[pa.Table, int]], path: Path, output: Path) -> tuple[int, int]:
    """Write the tables to one file; gives the numbers of scored and of refused rows."""
    import pyarrow.parquet as pq
    from pyarrow import csv
    from rich.console import Console
    from rich.progress import track

    console = Console(file=sys.stderr)
    options: Any = {"console": console, "transient": True, "disable": not console.is_terminal}
    kind = csv.CSVWriter if output.suffix == ".csv" else pq.ParquetWriter
    writer, rows, refused = None, 0, 0
    try:
        for table, wrong in track(tables, "score", **options):
            # Of other types than the first rows PyArrow says only ValueError.
            try:
                writer = writer or kind(path, table.schema)
                writer.write_table(table)
            except ValueError as error:
                raise UserError(f"{output}: can't hold this: {one_line(error)}") from None
            rows, refused = rows + len(table) - wrong, refused + wrong
    finally:
        if writer:
            writer.close()
    if writer is None:
        raise UserError(f"{output}: found no rows to score")
    return rows, refused


def main(arguments: Sequence[str]) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="mlops score", description="Score a table with a bundle.", allow_abbrev=False
    )
    parser.add_argument("bundle", type=Path, help="a bundle's folder")
    parser.add_argument("--input", required=True, metavar="LOCATION/TABLE",
                        help="a table of the source; of files its path or URL")  # fmt: skip
    parser.add_argument("--source", default="files", help="the kind of source, as data.source")
    parser.add_argument("--output", type=Path, required=True, help="a file *.parquet or *.csv")
    parser.add_argument("--replace", action="store_true", help="what is there")
    given = parser.parse_args(arguments)
    result = run(given.bundle, given.input, given.output, kind=given.source, replace=given.replace)
    if result.refused and not result.rows:
        raise Refused(result.line)
    print(result.line)
