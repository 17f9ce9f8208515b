"""Featurize on DuckDB against Spark local: the stage's own command, in fresh processes.

Whole processes, from the interpreter's start to its end, so each engine's own start counts.
"""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.figure import Figure, Plan, at_least, progress, ratio
from benchmarks.workspace import Workspace, workspace
from mlops.base.files import sha256
from mlops.contract import dataset
from mlops.contract.paths import FEATURES

ENGINES = ("duckdb", "spark")


def measure(plan: Plan) -> Iterator[Figure]:
    """How many times faster DuckDB makes the table, and whether it is the same table."""
    with workspace(plan.changes) as place:
        progress("engines: ingest")
        place.module("mlops.data.ingest")
        turns = [_turn(place, engine) for _ in range(plan.engine_runs) for engine in ENGINES]
    seconds = {engine: [s for e, s, _ in turns if e == engine] for engine in ENGINES}
    faster, said = ratio(seconds["spark"], seconds["duckdb"])
    yield at_least("featurize, spark local / duckdb", faster, 5, said)
    tables = {table for _, _, table in turns}
    equal = len(tables) == 1
    yield Figure("feature table of both engines", _said(tables), "equal", equal)


def _turn(place: Workspace, engine: str) -> tuple[str, float, str]:
    """The engine, its seconds, and the digest of the table that it made."""
    progress(f"engines: featurize on {engine}")
    place.change({"engine": engine})
    seconds = place.module("mlops.data.featurize").seconds
    folder = place.root / FEATURES
    parts = [sha256(folder / part)[:12] for part in (dataset.TRAINING, dataset.HOLDOUT)]
    return engine, seconds, "+".join(parts)


def _said(tables: set[str]) -> str:
    return ", ".join(sorted(tables))
