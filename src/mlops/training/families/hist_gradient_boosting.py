"""scikit-learn's histogram-based gradient boosted trees."""

from __future__ import annotations

from typing import Any

import numpy as np

from mlops.contract.project import Task
from mlops.training.families import STOPPING_ROUNDS, Encoding, Pair

ENCODING: Encoding = "ordinal"
ROUNDS = "max_iter"


def build(task: Task, hyperparameters: dict[str, Any], seed: int, threads: int) -> Any:
    """An unfitted estimator; scikit-learn takes the threads from OpenMP's limit."""
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

    regression = task == "regression"
    kind = HistGradientBoostingRegressor if regression else HistGradientBoostingClassifier
    return kind(**hyperparameters, random_state=seed, early_stopping=False)


def fit(estimator: Any, train: Pair, validation: Pair | None) -> int | None:
    """Fit it; the rounds that early stopping chose, None without validation rows."""
    matrix, outcome = train
    # scikit-learn makes no bins of a column without any value; a constant is never split on.
    empty = np.isnan(matrix).all(axis=0)
    if empty.any():
        matrix = np.where(empty, np.float32(0), matrix)
    if validation is None:
        estimator.fit(matrix, outcome)
        return None
    estimator.set_params(early_stopping=True, n_iter_no_change=STOPPING_ROUNDS)
    estimator.fit(matrix, outcome, X_val=validation[0], y_val=validation[1])
    return int(np.argmax(estimator.validation_score_)) or 1
