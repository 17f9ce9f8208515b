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


def threshold(outcome: Array, probability: Array) -> float:
    """Find the probability from which saying `positive` maximises F1; both of shape (n,).

    The threshold lies midway between two observed probabilities, so that rounding (float32 in
    ONNX) does not move a row across it; among equals the highest is taken. Raises ValueError
    for shapes that disagree, outcomes other than 0 and 1 or without a 1, and probabilities that
    are not finite.
    """
    outcome, probability = _checked(outcome, probability)
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


def _checked(outcome: Array, probability: Array) -> tuple[Array, Array]:
    outcome, probability = (np.asarray(a, dtype=np.float64) for a in (outcome, probability))
    if outcome.ndim != 1 or outcome.shape != probability.shape:
        found = f"{outcome.shape} and {probability.shape}"
        raise ValueError(f"outcome and probability: shapes {found}, expected (n,) and (n,)")
    if not np.isin(outcome, (0, 1)).all():
        raise ValueError("outcome: other values than 0 and 1")
    if not outcome.any():
        raise ValueError("outcome: no positive row, expected at least one to choose a threshold")
    if not np.isfinite(probability).all():
        raise ValueError("probability: missing or infinite values, expected finite numbers")
    return outcome, probability
