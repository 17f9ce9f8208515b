"""Baselines that a model must beat: a constant prediction, and one feature alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from mlops.contract import dataset
from mlops.contract.project import Features, Task
from mlops.evaluation import metrics
from mlops.evaluation.own_metrics import OwnMetric
from mlops.training import families, objective

if TYPE_CHECKING:
    import pandas as pd

ROUNDS, LEAVES = 50, 8


def score(
    training: pd.DataFrame,
    holdout: pd.DataFrame,
    spec: Features,
    task: Task,
    classes: tuple[str, ...],
    own: Sequence[OwnMetric] = (),
) -> dict[str, dict[str, float]]:
    """Score each baseline, fitted on the training rows, on the holdout, at its own threshold."""
    labels, actual = (dataset.target(rows, spec, classes) for rows in (training, holdout))
    # The training rows' mean, or class shares, for every row.
    mean = np.bincount(labels) / len(labels) if task == "multiclass" else labels.mean()
    fitted, scored = _one_feature(training, holdout, labels, spec, task)
    constant = "mean" if task == "regression" else "majority class"
    cut = objective.threshold(labels, fitted) if task == "binary" else None
    return {
        # The majority is what is more likely than not.
        constant: metrics.score(task, actual, np.array([mean] * len(actual)), 0.5, own),
        f"one feature: {spec.baseline}": metrics.score(task, actual, scored, cut, own),
    }


def _one_feature(
    training: pd.DataFrame, holdout: pd.DataFrame, labels: Any, spec: Features, task: Task
) -> tuple[Any, Any]:
    """What a few small trees on the baseline feature alone say of both parts."""
    family = families.family("hist_gradient_boosting")
    frames = [dataset.inputs(rows, spec)[[spec.baseline]] for rows in (training, holdout)]
    encoder = families.encoder(family.ENCODING, frames[0]).fit(frames[0])
    matrices = [encoder.transform(frame) for frame in frames]
    estimator = family.build(task, {"max_iter": ROUNDS, "max_leaf_nodes": LEAVES}, 0, 1)
    family.fit(estimator, (matrices[0], labels), None)
    fitted, scored = (families.predict(estimator, task, matrix) for matrix in matrices)
    return fitted, scored
