"""Logistic regression, or ridge regression where the task is a regression."""

from __future__ import annotations

from typing import Any

from mlops.contract.project import Task
from mlops.training.families import Encoding, Pair

ENCODING: Encoding = "dense"
ROUNDS = None


def build(task: Task, hyperparameters: dict[str, Any], seed: int, threads: int) -> Any:
    """An unfitted estimator."""
    if task == "regression":
        from sklearn.linear_model import Ridge

        return Ridge(**hyperparameters, random_state=seed)
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression(**hyperparameters, random_state=seed)


def fit(estimator: Any, train: Pair, validation: Pair | None) -> int | None:
    """Fit it on all rows; there are no rounds to choose."""
    estimator.fit(*train)
    return None
