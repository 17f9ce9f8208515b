"""Curves and histograms of predictions: tables of at most 200 points, for plots and reports.

Arguments are as in `mlops.evaluation.metrics`; every table depends on them alone.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from mlops.contract.project import Task
from mlops.evaluation.bounds import wilson
from mlops.evaluation.weighted import CALIBRATION_BINS, Array, equal_weight_bins

POINTS = 200
HISTOGRAM_BINS = 40


def curves(
    task: Task, y: Array, prediction: Array, threshold: float | None
) -> dict[str, pd.DataFrame]:
    """Compute every table that applies to the task, by the name of its function.

    The confusion matrix of a binary task is that of its threshold; the calibration of a multiclass
    task is that of the most likely class.
    """
    if task == "regression":
        return {f.__name__: f(y, prediction) for f in (predicted_vs_actual, residual_histogram)}
    if task == "multiclass":
        likely, probability = prediction.argmax(axis=1), prediction.max(axis=1)
        calibration = calibration_curve(likely == y, probability)
        confusion = confusion_matrix(y, likely, classes=prediction.shape[1])
        return {"calibration_curve": calibration, "confusion_matrix": confusion}
    if threshold is None:
        raise ValueError("threshold: None, expected a probability for a binary task")
    tables = (roc_curve, precision_recall_curve, calibration_curve, score_histogram)
    confusion = confusion_matrix(y, prediction >= threshold, classes=2)
    return {**{f.__name__: f(y, prediction) for f in tables}, "confusion_matrix": confusion}


def roc_curve(y: Array, probability: Array) -> pd.DataFrame:
    """Columns fpr, tpr, threshold, from (0, 0) to (1, 1); points evenly spaced along the curve."""
    from sklearn import metrics

    fpr, tpr, threshold = metrics.roc_curve(y, probability)
    # The first threshold is infinite: the point where no row is predicted positive.
    threshold = np.where(np.isfinite(threshold), threshold, 1.0)
    table = pd.DataFrame({"fpr": fpr, "tpr": tpr, "threshold": threshold})
    return table.iloc[_evenly_spaced(fpr + tpr)]


def precision_recall_curve(y: Array, probability: Array) -> pd.DataFrame:
    """Columns recall, precision, threshold, by rising recall, evenly spaced along it."""
    from sklearn import metrics

    precision, recall, threshold = metrics.precision_recall_curve(y, probability)
    # The last point, precision 1 at recall 0, is a convention without a threshold: left out.
    columns = {
        "recall": recall[-2::-1],
        "precision": precision[-2::-1],
        "threshold": threshold[::-1],
    }
    return pd.DataFrame(columns).iloc[_evenly_spaced(columns["recall"])]


def calibration_curve(outcome: Array, probability: Array) -> pd.DataFrame:
    """Columns predicted, observed, low, high (Wilson's), rows; bins of equal weight."""
    bins = _bins(probability, CALIBRATION_BINS)
    groups = pd.DataFrame({"predicted": probability, "observed": outcome}).astype(float)
    table, rows = groups.groupby(bins).mean(), groups.groupby(bins).size()
    ends = [wilson(rate, 0, 1.959964, n) for rate, n in zip(table["observed"], rows, strict=True)]
    table[["low", "high"]] = ends
    return table.assign(rows=rows).reset_index(drop=True)


def score_histogram(y: Array, probability: Array) -> pd.DataFrame:
    """Columns low, high (bounds of the bin), negative, positive: rows by label, over 0..1."""
    edges = np.linspace(0, 1, HISTOGRAM_BINS + 1)
    negative, positive = (np.histogram(probability[y == label], edges)[0] for label in (0, 1))
    return pd.DataFrame(
        {"low": edges[:-1], "high": edges[1:], "negative": negative, "positive": positive}
    )


def confusion_matrix(y: Array, predicted: Array, *, classes: int) -> pd.DataFrame:
    """Columns actual, predicted, rows: one line for each of classes x classes pairs."""
    from sklearn import metrics

    labels = np.arange(classes)
    rows = metrics.confusion_matrix(np.asarray(y, dtype=np.intp), predicted, labels=labels)
    cells = {"actual": labels.repeat(classes), "predicted": np.tile(labels, classes)}
    return pd.DataFrame({**cells, "rows": rows.ravel()})


def predicted_vs_actual(y: Array, prediction: Array) -> pd.DataFrame:
    """Columns predicted (mean), actual (mean), low, high (10 % and 90 % of y), rows, per bin."""
    bins = _bins(prediction, 2 * CALIBRATION_BINS)
    actual = pd.Series(y).astype(float).groupby(bins)
    columns = {
        "predicted": pd.Series(prediction).groupby(bins).mean(), "actual": actual.mean(),
        "low": actual.quantile(0.1), "high": actual.quantile(0.9), "rows": actual.size(),
    }  # fmt: skip
    return pd.DataFrame(columns).reset_index(drop=True)


def residual_histogram(y: Array, prediction: Array) -> pd.DataFrame:
    """Columns low, high (bounds of the bin), rows; the last bins have the outermost 0.5 % too."""
    residual = prediction - y
    first, last = np.percentile(residual, [0.5, 99.5])
    rows, edges = np.histogram(np.clip(residual, first, last), HISTOGRAM_BINS)
    return pd.DataFrame({"low": edges[:-1], "high": edges[1:], "rows": rows})


def _bins(values: Array, bins: int) -> Array:
    _, group, weight = np.unique(values, return_inverse=True, return_counts=True)
    return np.asarray(equal_weight_bins(weight, bins)[group])


def _evenly_spaced(position: Array) -> Array:
    """Indices of at most POINTS positions (ascending), first and last included."""
    last = len(position) - 1
    wanted = np.linspace(position[0], position[-1], POINTS - 1)
    return np.union1d(np.searchsorted(position, wanted).clip(max=last), [last])
