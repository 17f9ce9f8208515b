"""XGBoost's gradient boosted trees."""

from __future__ import annotations

import logging
from typing import Any

from mlops.contract.project import Task
from mlops.training.families import STOPPING_ROUNDS, Encoding, Pair

ENCODING: Encoding = "ordinal"
ROUNDS = "n_estimators"


def build(task: Task, hyperparameters: dict[str, Any], seed: int, threads: int) -> Any:
    """An unfitted estimator whose result depends on the seed and the threads alone."""
    import xgboost

    kind = xgboost.XGBRegressor if task == "regression" else xgboost.XGBClassifier
    return kind(
        **hyperparameters, random_state=seed, n_jobs=threads, tree_method="hist", verbosity=0
    )


def fit_on_spark(
    task: Task, hyperparameters: dict[str, Any], seed: int, rows: Any, workers: int
) -> Any:
    """Fit it by `xgboost.spark`; each worker has the threads of `spark.task.cpus`."""
    from xgboost import spark

    logging.getLogger("XGBoost-PySpark").setLevel(logging.WARNING)
    kind = spark.SparkXGBRegressor if task == "regression" else spark.SparkXGBClassifier
    estimator = kind(
        **hyperparameters,
        random_state=seed,
        tree_method="hist",
        verbosity=0,
        verbose=False,
        num_workers=workers,
        features_col="features",
        label_col="outcome",
    )
    return estimator.fit(rows)._xgb_sklearn_model


def fit(estimator: Any, train: Pair, validation: Pair | None) -> int | None:
    """Fit it; the rounds that early stopping chose, None without validation rows."""
    if validation is None:
        estimator.fit(*train)
        return None
    estimator.set_params(early_stopping_rounds=STOPPING_ROUNDS)
    estimator.fit(*train, eval_set=[validation], verbose=False)
    return int(estimator.best_iteration) + 1
