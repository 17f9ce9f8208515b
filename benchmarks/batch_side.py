"""One way to score the workspace's bundle, timed: `SIDE INPUT OUTPUT`; prints JSON.

Each reads the same Parquet files, adds the probability and writes Parquet: once to warm up, once
against the clock, from reading to the last byte written. Interpreter, imports and Spark's start
are not counted; loading the model is.
"""

from __future__ import annotations

import json
import shutil
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from mlops.contract import bundle, params
from mlops.contract.paths import BUNDLE
from mlops.data import engine
from mlops.data.engine import Engine

Score = Callable[[Path, Path], None]


def main(side: str, source: Path, output: Path) -> dict[str, float]:
    """The seconds of the second run, and the mean prediction."""
    score, seconds = SIDES[side](), 0.0
    for _ in range(2):
        for old in output.parent.glob(f"{output.name}*"):
            shutil.rmtree(old) if old.is_dir() else old.unlink()
        start = time.perf_counter()
        score(source, output)
        seconds = time.perf_counter() - start
    return {"seconds": seconds, "mean": _mean(output)}


def _ours(kind: Engine) -> Score:
    from mlops.serving import batch

    def score(source: Path, output: Path) -> None:
        batch.run(BUNDLE, str(source), output, kind)

    return score


def _udf() -> Score:
    import mlflow

    from mlops.pipeline import tracking

    parameters = params.load_all()
    mlflow.set_tracking_uri(tracking.uri(Path()))
    session = engine.start("spark")
    udf = mlflow.pyfunc.spark_udf(
        session, f"models:/{parameters.model}/1", result_type="double", env_manager="local"
    )
    names = [column.name for column in bundle.read_card(BUNDLE).inputs]

    def score(source: Path, output: Path) -> None:
        from pyspark.sql import functions as F

        table = session.read.parquet(str(source.resolve()))
        table.withColumn("probability", udf(F.struct(*names))).write.parquet(str(output.resolve()))

    return score


SIDES: dict[str, Callable[[], Score]] = {
    "ours": partial(_ours, "duckdb"),
    "ours on spark": partial(_ours, "spark"),
    "spark_udf": _udf,
}


def _mean(output: Path) -> float:
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    scores = pq.read_table(output, columns=["probability"])["probability"]
    return float(pc.mean(scores).as_py())


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))))
