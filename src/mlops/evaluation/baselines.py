"""What a model must beat: saying the same of every row, and knowing a single feature."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from mlops.contract import dataset
from mlops.contract.project import Features, Task
from mlops.evaluation import metrics
from mlops.evaluation.own_metrics import OwnMetric
from mlops.training import families

if TYPE_CHECKING:
    import pandas as pd

ROUNDS, LEAVES = 50, 8


def score(
    training: pd.DataFrame,
    holdout: pd.DataFrame,
    spec: Features,
    task: Task,
    threshold: float | None,
    own: Sequence[OwnMetric] = (),
) -> dict[str, metrics.Metrics]:
    """The holdout's metrics for each baseline, fitted on the training rows."""
    outcome = dataset.target(training, spec, task).to_numpy()
    actual = dataset.target(holdout, spec, task).to_numpy()
    guesses = {
        "mean" if task == "regression" else "majority class": _constant(outcome, len(actual), task),
        f"one feature: {spec.baseline}": _one_feature(training, holdout, outcome, spec, task),
    }
    return {
        name: metrics.score(task, actual, guess, threshold, own) for name, guess in guesses.items()
    }


def _constant(outcome: Any, rows: int, task: Task) -> Any:
    """The training rows' mean or class shares, for every row."""
    if task == "multiclass":
        return np.tile(np.bincount(outcome) / len(outcome), (rows, 1))
    return np.full(rows, outcome.mean())


def _one_feature(
    training: pd.DataFrame, holdout: pd.DataFrame, outcome: Any, spec: Features, task: Task
) -> Any:
    """A few small trees on the project's baseline feature alone."""
    family = families.family("hist_gradient_boosting")
    seen = dataset.inputs(training, spec)[[spec.baseline]]
    encoder = families.encoder(family.encoding, seen)
    estimator = family.build(task, {"max_iter": ROUNDS, "max_leaf_nodes": LEAVES}, 0, 1)
    family.fit(estimator, (encoder.fit_transform(seen), outcome), None)
    new = encoder.transform(dataset.inputs(holdout, spec)[[spec.baseline]])
    return families.predict(estimator, task, new)
