"""Batch scoring against MLflow's `spark_udf` of the same registered model, and its memory.

Rounds are interleaved, and every side's mean prediction must be the same. A side is a process of
its own, `python -m benchmarks.batch SIDE INPUT`: it reads the same Parquet files, adds the
probability and writes Parquet, once to warm up and once against the clock, from reading to the
last byte written. Interpreter, imports and Spark's start are not counted; loading the model is.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from benchmarks.figure import Failed, Figure, at_least, at_most, progress
from benchmarks.workspace import Workspace, workspace
from mlops.contract import bundle, dataset, params
from mlops.contract.paths import BUNDLE, FEATURES
from mlops.contract.stages import MADE_BY_DVC, MODULES
from mlops.data import engine

OURS, UDF = SIDES = "ours", "spark_udf"
ROUNDS, ROWS, FILES = 3, 300_000, 8
SCALES = (1, 8)
# A short search: its first candidates are models as good as any to be scored.
SEARCH = {"tune.max_evals": 4}
TOLERANCE = 1e-5


def measure() -> Iterator[Figure]:
    """Rows per second in those of `spark_udf`, and the memory that more rows take."""
    with workspace(SEARCH) as place:
        for stage in (*MADE_BY_DVC, "register"):
            progress(f"batch: {stage}")
            place.module(MODULES[stage])
        for scale in SCALES:
            _copy(place.root, scale)
        rounds = [_round(place, number + 1) for number in range(ROUNDS)]
        ours, udf = (median(seconds[side] for seconds in rounds) for side in SIDES)
        rates = " / ".join(f"{ROWS / seconds / 1000:.0f}k" for seconds in (ours, udf))
        yield at_least("batch / spark_udf, rows/s", udf / ours, 3, rates)
        small, large = (_peak(place, scale) for scale in SCALES)
        detail = f"{large:.0f} MB / {small:.0f} MB"
        yield at_most("batch peak memory, 8x / 1x the rows", large / small, 1.25, detail)


def _round(place: Workspace, number: int) -> dict[str, float]:
    """The seconds of each side."""
    seconds, means = {}, set()
    for side in SIDES:
        progress(f"batch: {side}, round {number}")
        ended = place.module("benchmarks.batch", side, f"rows/{SCALES[0]}")
        seconds[side], mean = json.loads(ended.out.splitlines()[-1])
        means.add(mean)
    if max(means) - min(means) > TOLERANCE:
        raise Failed(f"mean predictions differ: {', '.join(map(str, sorted(means)))}")
    return seconds


def _peak(place: Workspace, scale: int) -> float:
    """The most memory, in MB, of a whole process with so many times the rows."""
    progress(f"batch: memory with {scale} times the rows")
    words = ("score", str(BUNDLE), "--input", f"rows/{scale}", "--output", f"out-{scale}.parquet")
    return place.mlops(*words, watched=True).peak / 2**20


def _copy(root: Path, scale: int) -> None:
    """So many times `ROWS` rows of the features, in files of the same size."""
    parts = [root / FEATURES / part for part in (dataset.TRAINING, dataset.HOLDOUT)]
    whole = pa.concat_tables([pq.read_table(part) for part in parts]).replace_schema_metadata(None)
    rows = pa.concat_tables([whole] * -(-ROWS // len(whole))).slice(0, ROWS).combine_chunks()
    (root / f"rows/{scale}").mkdir(parents=True)
    for number in range(FILES * scale):
        part = rows.slice(number % FILES * (ROWS // FILES), ROWS // FILES)
        pq.write_table(part, root / f"rows/{scale}/{number:03}.parquet")


def _scoring(side: str) -> Callable[[Path, Path], object]:
    """A function that scores an input into an output."""
    if side == OURS:
        from mlops.serving import batch

        return lambda source, output: batch.run(BUNDLE, str(source), output)
    import mlflow

    from mlops.pipeline import tracking_server

    mlflow.set_tracking_uri(tracking_server.uri(Path()))
    session, uri = engine.start("spark"), f"models:/{params.load_all().model}/1"
    udf = mlflow.pyfunc.spark_udf(session, uri, result_type="double", env_manager="local")
    names = [column.name for column in bundle.read_card(BUNDLE).inputs]

    def score(source: Path, output: Path) -> None:
        from pyspark.sql import functions as F

        table = session.read.parquet(str(source.resolve()))
        table.withColumn("probability", udf(F.struct(*names))).write.parquet(str(output.resolve()))

    return score


def main(side: str, source: Path) -> tuple[float, float]:
    """The seconds of the second run, and the mean prediction."""
    score, seconds = _scoring(side), 0.0
    with tempfile.TemporaryDirectory(dir=".") as folder:
        for output in (Path(folder, "first.parquet"), Path(folder, "second.parquet")):
            start = time.perf_counter()
            score(source, output)
            seconds = time.perf_counter() - start
        return seconds, pc.mean(pq.read_table(output, columns=["probability"])[0]).as_py()


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1], Path(sys.argv[2]))))
