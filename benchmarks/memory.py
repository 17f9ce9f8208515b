"""Peak memory of ingest and featurize on DuckDB at once and 16 times the example's year.

A copy of the year is flown by carriers of its own: a letter more in their codes makes every key
another one, and every reference and check of the schemas holds. The source is Parquet, a file a
month. DuckDB's memory is limited, so that what grows is what holds rows.
"""

from __future__ import annotations

import os
import string
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from benchmarks.figure import Figure, at_most, progress
from benchmarks.workspace import workspace
from mlops.contract.paths import RAW
from mlops.data.streaming import VARIABLE

SCALES = (1, 16)
# DuckDB's limit in each stage: little more than the largest multiple cannot do without.
LIMITS = {"ingest": "150MB", "featurize": "350MB"}
# The tables that have a carrier, or belong to one.
COPIED = ("flights", "airlines")


def measure() -> Iterator[Figure]:
    """The largest multiple's peak over the year's, children included; and its rows."""
    peaks: dict[str, list[int]] = {stage: [] for stage in LIMITS}
    with workspace() as place:
        progress("memory: ingest")
        place.module("mlops.data.ingest")
        raw = place.root / "year"
        (place.root / RAW).rename(raw)
        place.change({"data.source": "files", "data.location": "tables"})
        for scale in SCALES:
            progress(f"memory: copying the tables {scale} times")
            rows = multiply(raw, place.root / "tables", scale)
            for stage, limit in LIMITS.items():
                progress(f"memory: {stage} of {rows:,} flights, DuckDB within {limit}")
                os.environ[VARIABLE] = limit
                peaks[stage].append(place.module(f"mlops.data.{stage}", watched=True).peak)
    for stage, (small, large) in peaks.items():
        detail = f"{large / 2**20:.0f} MiB / {small / 2**20:.0f} MiB"
        name = f"{stage}, peak memory, {SCALES[-1]}x / 1x the rows"
        yield at_most(name, large / small, 1.3, detail)
    yield Figure("flights of the largest multiple tried", f"{rows:,}")


def multiply(raw: Path, target: Path, copies: int) -> int:
    """Write every table, those with carriers `copies` times over; the number of flights."""
    flights = 0
    for path in sorted(raw.glob("*/*.parquet")):
        table, name = pq.read_table(path), path.parent.name
        (target / name).mkdir(parents=True, exist_ok=True)
        with pq.ParquetWriter(target / name / path.name, table.schema) as writer:
            for copy in range(copies if name in COPIED else 1):
                writer.write_table(_renamed(table, copy))
                flights += len(table) * (name == "flights")
    return flights


def _renamed(table: pa.Table, copy: int) -> pa.Table:
    """The table with another letter behind each carrier; the first copy as it is."""
    if not copy or "carrier" not in table.column_names:
        return table
    letter = (string.ascii_letters + string.digits)[copy]
    carriers = pc.binary_join_element_wise(table.column("carrier"), letter, "")
    return table.set_column(table.column_names.index("carrier"), "carrier", carriers)
