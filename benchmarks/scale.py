"""Featurize on Spark at 1, 4 and 16 times the rows: does time grow no faster than they do?

A copy is a country of its own: its airports, airlines, aircraft and weather stations carry the
copy's number in their names. So the keys that are grouped, joined and windowed over multiply with
the rows, and no group grows. Spark plans and computes every feature of every row and writes them
to its `noop` sink: nothing is collected to the driver, and no disk is measured.

The process, `python -m benchmarks.scale ROUNDS FOLDER...`, starts the session before the clock and
runs all sizes in turn, after one run to warm up, so that a fixed cost of starting does not flatter
the larger sizes.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from benchmarks.figure import Figure, at_most, progress, ratio
from benchmarks.workspace import workspace
from mlops.contract import params, project
from mlops.contract.paths import RAW
from mlops.data import engine

SCALES, ROUNDS = (1, 4, 16), 2
# What names an airport, an airline or an aircraft, in any table.
KEYS = {"origin", "dest", "faa", "carrier", "tailnum"}


def measure() -> Iterator[Figure]:
    """Time at each size over the time at the size before; the rows' growth is the limit."""
    with workspace() as place:
        progress("scale: ingest")
        place.module("mlops.data.ingest")
        folders = {scale: place.root / "scaled" / str(scale) for scale in SCALES}
        for scale, folder in folders.items():
            progress(f"scale: copying the tables {scale} times")
            _multiply(place.root / RAW, folder, scale)
        progress(f"scale: featurize on spark, {ROUNDS} rounds of all sizes")
        words = (str(ROUNDS), *map(str, folders.values()))
        ended = place.module("benchmarks.scale", *words)
        seconds = dict(zip(SCALES, json.loads(ended.out.splitlines()[-1]), strict=True))
    for small, large in pairwise(SCALES):
        grown, detail = ratio(seconds[large], seconds[small])
        name = f"spark featurize, {large}x / {small}x the rows"
        yield at_most(name, grown, large / small, detail)


def _multiply(raw: Path, target: Path, copies: int) -> None:
    """Write every table `copies` times over, file by file, each copy under its own names."""
    for path in sorted(raw.glob("*/*.parquet")):
        table, place = pq.read_table(path), target / path.parent.name / path.name
        place.parent.mkdir(parents=True, exist_ok=True)
        with pq.ParquetWriter(place, table.schema) as writer:
            for copy in range(copies):
                writer.write_table(_renamed(table, copy))


def _renamed(table: pa.Table, copy: int) -> pa.Table:
    """The table with the copy's number behind every key; a missing one stays missing."""
    for number, field in enumerate(table.schema):
        if field.name in KEYS:
            suffix, joiner = (pa.scalar(text, field.type) for text in (f"-{copy}", ""))
            renamed = pc.binary_join_element_wise(table.column(number), suffix, joiner)
            table = table.set_column(number, field, renamed)
    return table


def main(rounds: int, folders: list[Path]) -> list[list[float]]:
    """Seconds of every round for each folder, from reading the tables to the last feature."""
    session = engine.start("spark")
    build = project.features(params.load_all().project).build

    def seconds(folder: Path) -> float:
        start = time.perf_counter()
        raw = {table.name: engine.read(session, table) for table in sorted(folder.iterdir())}
        build(raw).write.format("noop").mode("overwrite").save()
        return time.perf_counter() - start

    seconds(folders[0])
    turns = [[seconds(folder) for folder in folders] for _ in range(rounds)]
    return [list(turn) for turn in zip(*turns, strict=True)]


if __name__ == "__main__":
    print(json.dumps(main(int(sys.argv[1]), [Path(folder) for folder in sys.argv[2:]])))
