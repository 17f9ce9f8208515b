"""Peak memory of ingest and featurize at once and 16 times the example's year.

A copy of the year is flown by carriers of its own: a letter more in their codes makes every key
another one, and every reference and check of the schemas holds. The source is Parquet, a file a
month. DuckDB's memory is limited, so that what grows is what holds rows. Of Spark it is the driver
of a cluster, whose executors are processes of their own: its Python, and the most that was left of
its heap after a garbage collection.
"""

from __future__ import annotations

import os
import re
import string
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from benchmarks.figure import Figure, at_most, progress
from benchmarks.workspace import Workspace, workspace
from mlops.contract.paths import RAW
from mlops.data.streaming import VARIABLE
from tests import spark_servers

SCALES = (1, 16)
# DuckDB's limit in each stage: little more than the largest multiple cannot do without.
LIMITS = {"ingest": "150MB", "featurize": "350MB"}
PYTHON, HEAP = "spark featurize, the driver's Python", "spark featurize, the driver's heap"
GOALS = {"ingest": 1.3, "featurize": 1.3, PYTHON: 1.2, HEAP: 1.2}
# The tables that have a carrier, or belong to one.
COPIED = ("flights", "airlines")


def measure() -> Iterator[Figure]:
    """The largest multiple's peak over the year's, children included; and its rows."""
    peaks: dict[str, list[int]] = {name: [] for name in GOALS}
    with (
        workspace() as place,
        spark_servers.cluster(place.root.parent / "cluster", settings="") as cluster,
    ):
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
            progress(f"memory: featurize of {rows:,} flights, Spark's driver")
            for name, peak in _driver(place, cluster).items():
                peaks[name].append(peak)
    for name, (small, large) in peaks.items():
        detail = f"{large / 2**20:.0f} MiB / {small / 2**20:.0f} MiB"
        name_and_scale = f"{name}, {SCALES[-1]}x / 1x the rows"
        yield at_most(name_and_scale, large / small, GOALS[name], detail)
    yield Figure("flights of the largest multiple tried", f"{rows:,}")


def _driver(place: Workspace, cluster: spark_servers.Cluster) -> dict[str, int]:
    """The peaks of Spark's driver in featurize."""
    log = cluster.folder / "driver.log"
    with (cluster.folder / "spark-defaults.conf").open("a") as file:
        # As many partitions as Spark makes where nothing says how many.
        file.write("spark.sql.shuffle.partitions 200\n")
        file.write(f"spark.driver.extraJavaOptions -Xlog:gc:{log}\n")
    place.change({"engine": "spark"})
    ended = replace(place, variables=cluster.environment).module(
        "mlops.data.featurize", watched=True
    )
    place.change({"engine": "duckdb"})
    left = re.findall(r"\d+M->(\d+)M\(", log.read_text())
    log.unlink()
    return {PYTHON: ended.own, HEAP: max(map(int, left)) * 2**20}


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
