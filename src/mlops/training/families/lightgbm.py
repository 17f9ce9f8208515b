"""LightGBM's gradient boosted trees."""

from __future__ import annotations

from typing import Any

from mlops.contract.project import Task
from mlops.training.families import STOPPING_ROUNDS, Encoding, Pair

ENCODING: Encoding = "ordinal"
ROUNDS = "n_estimators"


def build(task: Task, hyperparameters: dict[str, Any], seed: int, threads: int) -> Any:
    """An unfitted estimator whose result depends on the seed and the threads alone."""
    import lightgbm

    kind = lightgbm.LGBMRegressor if task == "regression" else lightgbm.LGBMClassifier
    return kind(
        **hyperparameters,
        random_state=seed,
        n_jobs=threads,
        deterministic=True,
        force_row_wise=True,
        verbosity=-1,
    )


def fit(estimator: Any, train: Pair, validation: Pair | None) -> int | None:
    """Fit it; the rounds that early stopping chose, None without validation rows."""
    if validation is None:
        estimator.fit(*train)
        return None
    import lightgbm

    stopping = lightgbm.early_stopping(STOPPING_ROUNDS, first_metric_only=True, verbose=False)
    estimator.fit(*train, eval_X=validation[0], eval_y=validation[1], callbacks=[stopping])
    return int(estimator.best_iteration_)
