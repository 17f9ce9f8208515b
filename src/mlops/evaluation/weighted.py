"""Metrics as functions of row weights: a weight of 2 is the row given twice."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlops.contract.project import Task

Array = NDArray[Any]
Metrics = dict[str, float]

CALIBRATION_BINS = 10


def scorer(
    task: Task, y: Array, prediction: Array, threshold: float | None
) -> Callable[[Array], Metrics]:
    """The metrics of a task, named as in `metrics.score`, as a function of row weights."""
    y, prediction = checked(task, y, prediction)
    if task == "regression":
        return _regression(y, prediction)
    if task == "multiclass":
        return _multiclass(y.astype(np.intp), prediction)
    if threshold is None:
        raise ValueError("threshold: None, expected a probability for a binary task")
    return _binary(y, prediction, threshold)


def checked(task: Task, y: Array, prediction: Array) -> tuple[Array, Array]:
    """Both in double precision; ValueError for shapes, values or labels that are wrong."""
    y, prediction = np.asarray(y, dtype=np.float64), np.asarray(prediction, dtype=np.float64)
    dimensions = 2 if task == "multiclass" else 1
    if y.ndim != 1 or prediction.ndim != dimensions or len(y) != len(prediction) or not len(y):
        expected = "(n,) and (n, k)" if dimensions == 2 else "(n,) and (n,)"
        shapes = f"{y.shape} and {prediction.shape}"
        raise ValueError(f"y and prediction: shapes {shapes}, expected {expected} with n > 0")
    if not (np.isfinite(y).all() and np.isfinite(prediction).all()):
        raise ValueError("y and prediction: missing or infinite values, expected finite numbers")
    classes = {"binary": 2, "multiclass": prediction.shape[-1]}.get(task)
    if classes and not np.isin(y, np.arange(classes)).all():
        raise ValueError(f"y: values from {y.min():g} to {y.max():g}, expected 0..{classes - 1}")
    return y, prediction


def _ranked(score: Array) -> tuple[Array, Callable[[Array], Array]]:
    """The distinct scores, ascending, and a function that sums the weights of the rows of each."""
    scores, group = np.unique(score, return_inverse=True)
    return scores, lambda weights: np.bincount(group, weights, len(scores))


def _binary(y: Array, probability: Array, threshold: float) -> Callable[[Array], Metrics]:
    scores, totals = _ranked(probability)
    alarm = probability >= threshold
    likelihood = np.where(y == 1, probability, 1 - probability)
    losses = _log_losses(likelihood), (probability - y) ** 2, alarm == y, alarm * y, alarm

    def metrics(weights: Array) -> Metrics:
        log_loss, brier, accuracy, hits, alarms = _means(losses, weights)
        positive, total = totals(weights * y), totals(weights)
        rate = float(positive.sum() / total.sum())
        return {
            "roc_auc": _roc_auc(positive, total - positive),
            "average_precision": _average_precision(positive, total),
            "log_loss": log_loss,
            "brier": brier,
            "calibration_error": _calibration_error(scores, positive, total),
            "accuracy": accuracy,
            "precision": _ratio(hits, alarms),
            "recall": _ratio(hits, rate),
            "f1": _ratio(2 * hits, alarms + rate),
        }

    return metrics


def _multiclass(y: Array, probability: Array) -> Callable[[Array], Metrics]:
    classes = probability.shape[1]
    likely = probability.argmax(axis=1)
    is_class = y[:, None] == np.arange(classes)
    rankings = [_ranked(column)[1] for column in probability.T]
    confidence, totals = _ranked(probability.max(axis=1))
    correct = likely == y
    squares = ((probability - is_class) ** 2).sum(axis=1)
    losses = _log_losses(probability[np.arange(len(y)), y]), squares, correct

    def metrics(weights: Array) -> Metrics:
        log_loss, brier, accuracy = _means(losses, weights)
        areas = [
            _roc_auc(of_class(weights * own), of_class(weights * ~own))
            for of_class, own in zip(rankings, is_class.T, strict=True)
        ]
        defined = [area for area in areas if not np.isnan(area)]
        cells = np.bincount(y * classes + likely, weights=weights, minlength=classes**2)
        return {
            "roc_auc": float(np.mean(defined)) if defined else float("nan"),
            "log_loss": log_loss,
            "brier": brier,
            "calibration_error": _calibration_error(
                confidence, totals(weights * correct), totals(weights)
            ),
            "accuracy": accuracy,
            **_macro_averages(cells.reshape(classes, classes)),
        }

    return metrics


def _regression(y: Array, prediction: Array) -> Callable[[Array], Metrics]:
    error = prediction - y
    sizes, totals = _ranked(np.abs(error))
    # Centred, since the difference of two large squares would lose the variance's digits.
    centred = y - y.mean()
    moments = np.abs(error), error**2, error, centred, centred**2

    def metrics(weights: Array) -> Metrics:
        mae, mse, bias, mean, square = _means(moments, weights)
        return {
            "mae": mae,
            "rmse": float(np.sqrt(mse)),
            "r2": 1 - _ratio(mse, square - mean**2),
            "bias": bias,
            "median_absolute_error": _median(sizes, totals(weights)),
        }

    return metrics


def _means(rows: Sequence[Array], weights: Array) -> list[float]:
    # Not a BLAS product, whose rounding depends on the number of threads.
    return [float((row * weights).sum() / weights.sum()) for row in rows]


def _log_losses(likelihood: Array) -> Array:
    smallest = np.finfo(np.float64).eps
    return np.asarray(-np.log(np.clip(likelihood, smallest, 1 - smallest)))


def _ratio(part: float, whole: float) -> float:
    return float(part / whole) if whole > 0 else float("nan")


def _roc_auc(positive: Array, negative: Array) -> float:
    """Probability that a positive outranks a negative; totals per score, ascending."""
    negatives_below = negative.cumsum() - negative / 2
    return _ratio(float((positive * negatives_below).sum()), positive.sum() * negative.sum())


def _average_precision(positive: Array, total: Array) -> float:
    hits, alarms = positive[::-1].cumsum(), total[::-1].cumsum()
    if hits[-1] in (0, alarms[-1]):
        return float("nan")
    precision = np.divide(hits, alarms, out=np.zeros_like(hits), where=alarms > 0)
    return float((positive[::-1] * precision).sum() / hits[-1])


def _calibration_error(scores: Array, positive: Array, total: Array) -> float:
    bins = equal_weight_bins(total, CALIBRATION_BINS)
    gaps = np.bincount(bins, positive - total * scores)
    return float(np.abs(gaps).sum() / total.sum())


def equal_weight_bins(total: Array, bins: int) -> Array:
    """Number the bin, 0..bins-1, of each distinct score, given the weight of each, ascending.

    Rows of equal score share a bin, so bins are equal in weight only up to ties.
    """
    middle = total.cumsum() - total / 2
    return np.asarray(np.minimum(middle / total.sum() * bins, bins - 1).astype(np.intp))


def _macro_averages(confusion: Array) -> Metrics:
    """Average over the classes that occur; a ratio that is undefined for a class counts as 0."""
    hits, labels, alarms = np.diag(confusion), confusion.sum(axis=1), confusion.sum(axis=0)
    occurs = labels + alarms > 0
    tiny = np.finfo(float).tiny
    ratios = {
        "precision": (hits, alarms),
        "recall": (hits, labels),
        "f1": (2 * hits, labels + alarms),
    }
    return {
        name: float((part[occurs] / np.maximum(whole[occurs], tiny)).mean())
        for name, (part, whole) in ratios.items()
    }


def _median(values: Array, totals: Array) -> float:
    """Median of values, ascending, of which each has a total weight."""
    reached = totals.cumsum()
    sides = [np.searchsorted(reached, reached[-1] / 2, side) for side in ("left", "right")]
    return float(values[sides].mean())
