"""What a search minimises and where a classifier cuts: apart from the metrics of the report, so
that a change there re-evaluates a model and does not train another."""

from __future__ import annotations

from typing import Any

import numpy as np

from mlops.contract.project import Task

Array = np.ndarray[Any, np.dtype[Any]]

NAMES: dict[Task, str] = {
    "binary": "1 - ROC AUC",
    "multiclass": "log loss",
    "regression": "RMSE",
}


def loss(task: Task, outcome: Array, prediction: Array) -> float:
    """The search's loss: 1 - ROC AUC, log loss, or root mean squared error in the target's unit."""
    from sklearn.metrics import log_loss, roc_auc_score, root_mean_squared_error

    if task == "binary":
        return 1.0 - float(roc_auc_score(outcome, prediction))
    if task == "multiclass":
        # Float32 probabilities miss one by their last digits, of which scikit-learn warns.
        shares = prediction / prediction.sum(axis=1, keepdims=True)
        return float(log_loss(outcome, shares, labels=range(prediction.shape[1])))
    return float(root_mean_squared_error(outcome, prediction))


def constant(task: Task, known: Array, outcome: Array) -> float:
    """The loss of the mean of the `known` outcomes, or of their class shares, for every row."""
    if task == "multiclass":
        mean = np.bincount(known, minlength=outcome.max() + 1) / len(known)
    else:
        mean = known.mean()
    return loss(task, outcome, np.array([mean] * len(outcome)))


def threshold(outcome: Array, probability: Array) -> float:
    """Find the probability from which saying `positive` maximises F1; both of shape (n,).

    The threshold lies midway between two observed probabilities, so that rounding (float32 in
    ONNX) does not move a row across it; among equals the highest is taken. `outcome` is 0 or 1,
    with a 1 in it.
    """
    scores, run = np.unique(probability, return_inverse=True)
    # A cut lies between two different scores, never inside a run of equal ones.
    hits = np.bincount(run, outcome)[::-1].cumsum()
    alarms = np.bincount(run)[::-1].cumsum()
    best = int(np.argmax(2 * hits / (alarms + outcome.sum())))
    candidates = scores[::-1]
    lowest_alarm = candidates[best]
    highest_pass = candidates[min(best + 1, len(candidates) - 1)]
    midway = (lowest_alarm + highest_pass) / 2
    return float(midway if midway > highest_pass else lowest_alarm)
