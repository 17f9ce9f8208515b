"""One way to score the workspace's bundle, timed: `SIDE INPUT OUTPUT`, or `fit`; prints JSON.

Each side reads the same Parquet files, adds the probability and writes Parquet: once to warm up,
once against the clock, from reading to the last byte written. Interpreter, imports, Spark's start
and the fit are not counted; loading the model is, where a process loads it anew for each table.
"""

from __future__ import annotations

import json
import os
import pickle
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mlops.contract import bundle, dataset, params, project
from mlops.contract.paths import BUNDLE, FEATURES
from mlops.data import engine
from mlops.training import families

if TYPE_CHECKING:
    from mlops.data.engine import Engine

NATIVE = Path("native.pickle")
Score = Callable[[Path, Path], None]


def main(side: str, source: Path, output: Path) -> dict[str, float]:
    """The seconds of the second run, and the mean of what it said."""
    score = SIDES[side]()
    for turn in range(2):
        _remove(output)
        start = time.perf_counter()
        score(source, output)
        seconds = time.perf_counter() - start
        print(f"{side}, run {turn + 1}: {seconds:.2f} s", file=sys.stderr)
    return {"seconds": seconds, "mean": _mean(output)}


def fit() -> None:
    """Fit the bundle's family with its hyperparameters, as the stage `train` does."""
    parameters = params.load_all()
    spec, card = project.features(parameters.project), bundle.read_card(BUNDLE)
    table = dataset.read(FEATURES / dataset.TRAINING)
    frame = dataset.inputs(table, spec)
    outcome = dataset.target(table, spec, card.task).to_numpy()
    family = families.family(card.family)
    encoder = families.encoder(family.encoding, frame)
    # As many threads as there are cores: those that learnt are a part of the result.
    estimator = family.build(card.task, card.hyperparameters, parameters.seed, os.cpu_count() or 1)
    matrix = encoder.fit_transform(frame).astype(np.float32)
    family.fit(estimator, (matrix, outcome), None)
    NATIVE.write_bytes(pickle.dumps((spec, encoder, estimator)))


def _ours(kind: Engine) -> Score:
    from mlops.serving import batch

    def score(source: Path, output: Path) -> None:
        batch.run(BUNDLE, str(source), output, kind)

    return score


def _native() -> Score:
    import pandas as pd

    def score(source: Path, output: Path) -> None:
        spec, encoder, estimator = pickle.loads(NATIVE.read_bytes())
        table = pd.read_parquet(source)
        frame = dataset.inputs(table, spec)
        said = estimator.predict_proba(encoder.transform(frame).astype(np.float32))[:, 1]
        table.assign(probability=said).to_parquet(output, index=False)

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
    "ours": lambda: _ours("duckdb"),
    "ours on spark": lambda: _ours("spark"),
    "spark_udf": _udf,
    "scikit-learn": _native,
}


def _remove(output: Path) -> None:
    for left in output.parent.glob(f"{output.name}*"):
        shutil.rmtree(left) if left.is_dir() else left.unlink()


def _mean(output: Path) -> float:
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    said: Any = pc.mean(pq.read_table(output, columns=["probability"])["probability"]).as_py()
    return float(said)


if __name__ == "__main__":
    if sys.argv[1] == "fit":
        fit()
    else:
        print(json.dumps(main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))))
