"""Baselines that a model must beat: a constant prediction, and one feature alone."""

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
) -> dict[str, dict[str, float]]:
    """Score each baseline, fitted on the training rows, on the holdout."""
    labels = dataset.target(training, spec, task).to_numpy()
    actual = dataset.target(holdout, spec, task).to_numpy()
    # The training rows' mean, or class shares, for every row.
    mean = np.bincount(labels) / len(labels) if task == "multiclass" else labels.mean()
    predictions = {
        "mean" if task == "regression" else "majority class": np.array([mean] * len(actual)),
        f"one feature: {spec.baseline}": _one_feature(training, holdout, labels, spec, task),
    }
    return {
        name: metrics.score(task, actual, prediction, threshold, own)
        for name, prediction in predictions.items()
    }


def _one_feature(
    training: pd.DataFrame, holdout: pd.DataFrame, labels: Any, spec: Features, task: Task
) -> Any:
    """A few small trees on the project's baseline feature alone."""
    family = families.family("hist_gradient_boosting")
    fitted, scored = (dataset.inputs(rows, spec)[[spec.baseline]] for rows in (training, holdout))
    encoder = families.encoder(family.ENCODING, fitted)
    estimator = family.build(task, {"max_iter": ROUNDS, "max_leaf_nodes": LEAVES}, 0, 1)
    family.fit(estimator, (encoder.fit_transform(fitted), labels), None)
    return families.predict(estimator, task, encoder.transform(scored))
