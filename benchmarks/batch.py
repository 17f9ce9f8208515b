"""Batch scoring against what else scores the same registered model, and its memory.

All sides read the same Parquet files and write Parquet, in processes that are warm; see
`batch_side.py`. Rounds are interleaved, and every side's mean prediction must be the same.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from benchmarks.figure import Failed, Figure, Plan, at_least, at_most, progress
from benchmarks.workspace import Workspace, workspace
from mlops.contract import dataset
from mlops.contract.paths import BUNDLE, FEATURES
from mlops.contract.stages import MADE_BY_DVC, MODULES

if TYPE_CHECKING:
    import pyarrow as pa

SIDES = ("ours", "scikit-learn", "spark_udf", "ours on spark")
ROWS, FILES = 300_000, 8
SCALES = (1, 8)
# A search that is over soon: its hand-set candidates are models as good as any to be scored.
SEARCH = {"tune.max_evals": 4}
AGREES = 1e-5


def measure(plan: Plan) -> Iterator[Figure]:
    """How many times the rows per second of the others, and what memory more rows take."""
    with workspace({**SEARCH, **plan.changes}) as place:
        for stage in (*MADE_BY_DVC, "register"):
            progress(f"batch: {stage}")
            place.module(MODULES[stage])
        progress("batch: fitting the native estimator, copying rows")
        place.module("benchmarks.batch_side", "fit")
        for scale in SCALES:
            _copy(place.root, scale)
        seconds = _timed(place, plan.engine_runs)
        for other, goal in (("spark_udf", 5), ("scikit-learn", 1.5)):
            yield _faster(seconds["ours"], seconds[other], f"batch / {other}, rows/s", goal)
        ours, udf = median(seconds["ours on spark"]), median(seconds["spark_udf"])
        yield Figure(
            "batch on spark / spark_udf, rows/s", f"{udf / ours:.2f} ({_rates(ours, udf)})"
        )
        yield _memory(place)


def _timed(place: Workspace, rounds: int) -> dict[str, list[float]]:
    """The seconds of each round, by side."""
    seconds: dict[str, list[float]] = {side: [] for side in SIDES}
    means = set()
    for number in range(rounds):
        for side in SIDES:
            progress(f"batch: {side}, round {number + 1}")
            ended = place.module("benchmarks.batch_side", side, _input(1), "out/scored")
            said = json.loads(ended.out.splitlines()[-1])
            seconds[side].append(said["seconds"])
            means.add(said["mean"])
    if max(means) - min(means) > AGREES:
        raise Failed(f"mean predictions differ: {', '.join(map(str, sorted(means)))}")
    return seconds


def _faster(ours: list[float], theirs: list[float], name: str, goal: float) -> Figure:
    mine, others = median(ours), median(theirs)
    return at_least(name, others / mine, goal, _rates(mine, others))


def _rates(mine: float, others: float) -> str:
    return f"{ROWS / mine / 1000:.0f}k / {ROWS / others / 1000:.0f}k"


def _memory(place: Workspace) -> Figure:
    """The peak of a whole process at so many times the rows, against once."""
    peaks = []
    for scale in SCALES:
        progress(f"batch: memory at {scale} times the rows")
        words = (str(BUNDLE), "--input", _input(scale), "--output", f"out/{scale}")
        ended = place.module("mlops.serving.batch", *words, watched=True)
        peaks.append(ended.peak / 2**20)
    small, large = peaks
    said = f"{large:.0f} MB / {small:.0f} MB"
    return at_most(f"batch peak memory, {SCALES[1]}x / 1x the rows", large / small, 1.25, said)


def _input(scale: int) -> str:
    return f"rows/{scale}"


def _copy(root: Path, scale: int) -> None:
    """So many times the rows that the features give, in files of the same size."""
    import pyarrow.parquet as pq

    parts = [root / FEATURES / part for part in (dataset.TRAINING, dataset.HOLDOUT)]
    folder = root / _input(scale)
    folder.mkdir(parents=True)
    rows = _rows([pq.read_table(part) for part in parts])
    each = ROWS // FILES
    for number in range(FILES * scale):
        piece = rows.slice(number % FILES * each, each)
        pq.write_table(piece, folder / f"{number:03}.parquet")


def _rows(tables: list[pa.Table]) -> pa.Table:
    """`ROWS` rows, again from the first when there are fewer."""
    import pyarrow as pa

    whole = pa.concat_tables(tables).replace_schema_metadata(None)
    return pa.concat_tables([whole] * -(-ROWS // len(whole))).slice(0, ROWS).combine_chunks()
