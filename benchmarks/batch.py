"""Batch scoring against MLflow's `spark_udf` of the same registered model, and its memory.

Both read the same Parquet files and write Parquet, in processes that are warm; see
`batch_side.py`. Rounds are interleaved, and every side's mean prediction must be the same.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from statistics import median

from benchmarks import process
from benchmarks.figure import Failed, Figure, Plan, at_least, at_most, progress
from benchmarks.workspace import BIN, Workspace, workspace
from mlops.contract import dataset
from mlops.contract.paths import BUNDLE, FEATURES
from mlops.contract.stages import MADE_BY_DVC, MODULES

SIDES = ("ours", "spark_udf", "ours on spark")
ROWS, FILES = 300_000, 8
SCALES = (1, 8)
# A short search: its first candidates are models as good as any to be scored.
SEARCH = {"tune.max_evals": 4}
TOLERANCE = 1e-5


def measure(plan: Plan) -> Iterator[Figure]:
    """Rows per second in those of `spark_udf`, and the memory that more rows take."""
    with workspace({**SEARCH, **plan.changes}) as place:
        for stage in (*MADE_BY_DVC, "register"):
            progress(f"batch: {stage}")
            place.module(MODULES[stage])
        for scale in SCALES:
            _copy(place.root, scale)
        seconds = _timed(place, plan.engine_runs)
        ours, spark, udf = (median(seconds[s]) for s in ("ours", "ours on spark", "spark_udf"))
        yield at_least("batch / spark_udf, rows/s", udf / ours, 3, _rates(ours, udf))
        yield Figure("batch on spark / spark_udf", f"{udf / spark:.2f} ({_rates(spark, udf)})")
        yield _memory(place)


def _timed(place: Workspace, rounds: int) -> dict[str, list[float]]:
    """The seconds of each round, by side."""
    seconds: dict[str, list[float]] = {side: [] for side in SIDES}
    means = set()
    for number in range(rounds):
        for side in SIDES:
            progress(f"batch: {side}, round {number + 1}")
            ended = place.module("benchmarks.batch_side", side, f"rows/{SCALES[0]}", "out/scored")
            result = json.loads(ended.out.splitlines()[-1])
            seconds[side].append(result["seconds"])
            means.add(result["mean"])
    if max(means) - min(means) > TOLERANCE:
        raise Failed(f"mean predictions differ: {', '.join(map(str, sorted(means)))}")
    return seconds


def _rates(mine: float, others: float) -> str:
    return f"{ROWS / mine / 1000:.0f}k / {ROWS / others / 1000:.0f}k"


def _memory(place: Workspace) -> Figure:
    """The peak of a whole process with so many times the rows, in that with once the rows."""
    peaks = []
    for scale in SCALES:
        progress(f"batch: memory with {scale} times the rows")
        command = [str(BIN / "mlops"), "score", str(BUNDLE), "--input", f"rows/{scale}"]
        command += ["--output", f"out/{scale}"]
        ended = process.run(command, place.root, place.environment, watched=True)
        peaks.append(ended.peak / 2**20)
    small, large = peaks
    detail = f"{large:.0f} MB / {small:.0f} MB"
    return at_most(f"batch peak memory, {SCALES[1]}x / 1x the rows", large / small, 1.25, detail)


def _copy(root: Path, scale: int) -> None:
    """So many times `ROWS` rows of the features, in files of the same size."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    parts = [root / FEATURES / part for part in (dataset.TRAINING, dataset.HOLDOUT)]
    whole = pa.concat_tables([pq.read_table(part) for part in parts]).replace_schema_metadata(None)
    rows = pa.concat_tables([whole] * -(-ROWS // len(whole))).slice(0, ROWS).combine_chunks()
    folder = root / f"rows/{scale}"
    folder.mkdir(parents=True)
    each = ROWS // FILES
    for number in range(FILES * scale):
        file = folder / f"{number:03}.parquet"
        pq.write_table(rows.slice(number % FILES * each, each), file)
