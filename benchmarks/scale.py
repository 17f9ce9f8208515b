"""Featurize on Spark at 1, 4 and 16 times the rows: does time grow no faster than they do?

A copy is a country of its own: its airports, airlines, aircraft and weather stations carry the
copy's number in their names. So the keys that are grouped, joined and windowed over multiply with
the rows, and no group grows. Spark plans and computes every feature of every row and writes them
to its `noop` sink: nothing is collected to the driver, and no disk is measured.

The session starts before the clock and runs all sizes in turn, after one run to warm up, so that
a fixed cost of starting does not flatter the larger sizes.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.figure import Figure, Plan, at_most, progress, ratio
from benchmarks.workspace import Workspace, workspace
from mlops.contract.paths import RAW

if TYPE_CHECKING:
    import pyarrow as pa

SCALES = (1, 4, 16)
# What names an airport, an airline or an aircraft, in any table.
KEYS = {"origin", "dest", "faa", "carrier", "tailnum"}


def measure(plan: Plan) -> Iterator[Figure]:
    """Time at each size over the time at the size before; the rows' growth is the limit."""
    with workspace(plan.changes) as place:
        progress("scale: ingest")
        place.module("mlops.data.ingest")
        for scale in SCALES:
            progress(f"scale: copying the tables {scale} times")
            _multiply(place.root / RAW, folder(place, scale), scale)
        progress(f"scale: featurize on spark, {plan.scale_rounds} rounds of all sizes")
        seconds = _timed(place, plan.scale_rounds)
    for small, large in pairwise(SCALES):
        grown, said = ratio(seconds[large], seconds[small])
        yield at_most(f"spark featurize, {large}x / {small}x the rows", grown, large / small, said)


def folder(place: Workspace, scale: int) -> Path:
    """Where the tables of one size lie."""
    return place.root / "scaled" / str(scale)


def _timed(place: Workspace, rounds: int) -> dict[int, list[float]]:
    """The seconds of each round, by size."""
    folders = [str(folder(place, scale)) for scale in SCALES]
    ended = place.module("benchmarks.spark_featurize", str(rounds), *folders)
    turns = json.loads(ended.out.splitlines()[-1])
    return {scale: turns[str(folder(place, scale))] for scale in SCALES}


def _multiply(raw: Path, target: Path, copies: int) -> None:
    """Write every table `copies` times over, file by file, each copy under its own names."""
    import pyarrow.parquet as pq

    for path in sorted(raw.glob("*/*.parquet")):
        table = pq.read_table(path)
        place = target / path.parent.name / path.name
        place.parent.mkdir(parents=True, exist_ok=True)
        with pq.ParquetWriter(place, table.schema) as writer:
            for copy in range(copies):
                writer.write_table(_renamed(table, copy))


def _renamed(table: pa.Table, copy: int) -> pa.Table:
    """The table with the copy's number behind every key; a missing one stays missing."""
    import pyarrow as pa
    import pyarrow.compute as pc

    for number, field in enumerate(table.schema):
        if field.name in KEYS:
            names = table.column(number)
            suffix = pa.scalar(f"-{copy}", names.type)
            joiner = pa.scalar("", names.type)
            renamed = pc.binary_join_element_wise(names, suffix, joiner)
            table = table.set_column(number, field, renamed)
    return table
