"""Featurize on DuckDB against Spark local: the stage's own command, in fresh processes.

Whole processes, from the interpreter's start to its end, so each engine's own start counts.
"""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.figure import Figure, at_least, progress, ratio
from benchmarks.workspace import workspace
from mlops.base.files import sha256
from mlops.contract import dataset
from mlops.contract.paths import FEATURES

ENGINES, RUNS = ("duckdb", "spark"), 3


def measure() -> Iterator[Figure]:
    """How many times faster DuckDB makes the table, and whether it is the same table."""
    seconds: dict[str, list[float]] = {engine: [] for engine in ENGINES}
    tables = set()
    with workspace() as place:
        progress("engines: ingest")
        place.module("mlops.data.ingest")
        for engine in ENGINES * RUNS:
            progress(f"engines: featurize on {engine}")
            place.change({"engine": engine})
            seconds[engine].append(place.module("mlops.data.featurize").seconds)
            parts = [place.root / FEATURES / part for part in (dataset.TRAINING, dataset.HOLDOUT)]
            tables.add("+".join(sha256(part)[:12] for part in parts))
    faster, detail = ratio(seconds["spark"], seconds["duckdb"])
    yield at_least("featurize, spark local / duckdb", faster, 5, detail)
    digests = ", ".join(sorted(tables))
    yield Figure("feature table of both engines", digests, "equal", len(tables) == 1)
