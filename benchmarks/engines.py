"""Featurize on DuckDB against Spark: the stage's own command, in fresh processes.

Whole processes, from the interpreter's start to its end, so each engine's own start counts. The
cluster (a master and two workers) and the Spark Connect server are processes of this machine.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from benchmarks.figure import Figure, at_least, progress, ratio
from benchmarks.workspace import Workspace, workspace
from mlops.base.files import sha256
from mlops.contract import dataset
from mlops.contract.paths import FEATURES
from tests import spark_servers

ENGINES, RUNS = ("duckdb", "spark"), 3


def measure() -> Iterator[Figure]:
    """How many times faster DuckDB makes the table, and whether it is the same table everywhere."""
    seconds: dict[str, list[float]] = {engine: [] for engine in ENGINES}
    with workspace() as place:
        progress("engines: ingest")
        place.module("mlops.data.ingest")
        digests = set()
        for engine in ENGINES * RUNS:
            progress(f"engines: featurize on {engine}")
            place.change({"engine": engine})
            seconds[engine].append(place.module("mlops.data.featurize").seconds)
            digests.add(_digest(place))
        faster, detail = ratio(seconds["spark"], seconds["duckdb"])
        yield at_least("featurize, spark local / duckdb", faster, 5, detail)
        yield _equal("feature table of both engines", digests)
        servers = place.root.parent
        with spark_servers.cluster(servers / "cluster") as cluster:
            yield _equal("and of a cluster", digests | {_made(place, cluster.environment)})
        with spark_servers.connect(servers / "connect") as url:
            yield _equal("and over Spark Connect", digests | {_made(place, {"SPARK_REMOTE": url})})


def _made(place: Workspace, variables: dict[str, str]) -> str:
    progress(f"engines: featurize on {', '.join(variables.values())}")
    replace(place, variables=variables).module("mlops.data.featurize")
    return _digest(place)


def _digest(place: Workspace) -> str:
    parts = [place.root / FEATURES / part for part in (dataset.TRAINING, dataset.HOLDOUT)]
    return "+".join(sha256(part)[:12] for part in parts)


def _equal(name: str, digests: set[str]) -> Figure:
    return Figure(name, ", ".join(sorted(digests)), "equal", len(digests) == 1)
