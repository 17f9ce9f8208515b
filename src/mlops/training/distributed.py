"""The final fit on several workers of Spark, each with a fixed and sorted part of the rows."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from mlops.base.errors import UserError
from mlops.contract.result import Tuned
from mlops.data import engine
from mlops.training import families
from mlops.training.params import Params

PLACE = "params.yaml: train.workers"


def fit(rows: families.Pair, tuned: Tuned, params: Params) -> Any:
    """The winner as a scikit-learn estimator, fitted on `train.workers` workers.

    Rows and workers decide the result, not where Spark runs. Raises UserError where it can't.
    """
    import pyarrow as pa

    workers, (matrix, outcome) = params.train.workers, rows
    families.require_distributed([tuned.family], workers)
    if os.environ.get("SPARK_REMOTE"):
        raise UserError(
            f"{PLACE}: found {workers} and SPARK_REMOTE, over which xgboost.spark can't train; "
            "expected 1, or a cluster by spark.master"
        )
    session = engine.start("spark")
    if engine.is_local(session) and workers > (cores := session.sparkContext.defaultParallelism):
        # For all workers at once Spark would wait.
        raise UserError(f"{PLACE}: found {workers}, expected at most this machine's {cores} cores")
    number = np.arange(len(matrix))
    table = pa.table(
        {
            "features": pa.FixedSizeListArray.from_arrays(matrix.ravel(), matrix.shape[1]),
            "outcome": outcome,
            "row": number,
            # Contiguous: the rows are in the order of their days.
            "worker": (number * workers // len(matrix)).astype(np.int32),
        }
    )
    frame = session.createDataFrame(table).repartitionById(workers, "worker")
    family, given = families.family(tuned.family), tuned.hyperparameters
    try:
        ordered = frame.sortWithinPartitions("row").select("features", "outcome")
        return family.fit_on_spark(tuned.task, given, params.seed, ordered, workers)
    except Exception as error:
        raise UserError(f"{PLACE}: {tuned.family} with {given}: {engine.cause(error)}") from error
