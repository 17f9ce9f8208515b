"""Quality of predictions: point metrics, bootstrap intervals, slices, importance.

By task, a prediction is: binary, the probability of the positive class, shape (n,); multiclass,
probabilities of shape (n, k) for labels 0..k-1; regression, the value, shape (n,). A metric that
the rows leave undefined (the ROC of one class, the precision of no alarm) is NaN, never an error.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mlops.base.errors import UserError, nearest
from mlops.contract.dataset import sample
from mlops.contract.project import Task
from mlops.evaluation import bounds
from mlops.evaluation.own_metrics import OwnMetric
from mlops.evaluation.weighted import Array, Metrics, checked, scorer

if TYPE_CHECKING:
    import pandas as pd

# The first one ranks the models of its task.
SLICE_METRICS: dict[Task, tuple[str, ...]] = {
    "binary": ("roc_auc", "average_precision", "brier", "recall", "precision"),
    "multiclass": ("log_loss", "roc_auc", "brier", "accuracy", "f1"),
    "regression": ("rmse", "mae", "r2", "bias"),
}
# Metrics of which less is better; of `bias`, less in absolute value.
ERRORS = ("log_loss", "brier", "calibration_error", "mae", "rmse", "median_absolute_error", "bias")


@dataclass(frozen=True)
class Interval:
    """A metric with its 95 % interval; the bounds are NaN for too few rows, or where undefined."""

    value: float
    low: float
    high: float


def main_metric(task: Task) -> tuple[str, bool]:
    """Name the metric that ranks models of this task, and whether greater is better."""
    name = SLICE_METRICS[task][0]
    return name, name not in ERRORS


def require_limit(name: str, limit: float, task: Task, place: str) -> None:
    """Raise UserError for a metric that the task lacks, or a limit out of the metric's range."""
    y = np.array([0.0, 1.0])
    known = score(task, y, np.eye(2) if task == "multiclass" else y, 0.5)
    if name not in known:
        hint = f"{nearest(name, known)}; a {task} has {', '.join(known)}"
        raise UserError(f"{place}: found {name!r}, which is no metric of this task{hint}")
    least, most = 0.0, 1.0
    if name == "r2":
        least = float("-inf")
    elif name == "log_loss" or task == "regression":
        most = float("inf")
    elif name == "brier" and task == "multiclass":
        most = 2.0
    if not least <= limit <= most:
        raise UserError(f"{place}.{name}: found {limit:g}, expected {least:g} to {most:g}")


def less_is_better(name: str, own: Sequence[OwnMetric] = ()) -> bool:
    """Whether a metric is an error: less is better; of `bias`, less in either direction."""
    return name in ERRORS or any(m.name == name and not m.greater_is_better for m in own)


def score(
    task: Task, y: Array, prediction: Array, threshold: float | None, own: Sequence[OwnMetric] = ()
) -> Metrics:
    """Compute the point metrics of a task, and the project's own; they equal scikit-learn's.

    binary: positive where probability >= threshold. multiclass: roc_auc is one-versus-rest;
    precision, recall and f1 are macro averages. regression: bias is predicted less actual, in y's
    unit. calibration_error is the expected calibration error over ten bins of equal weight, of the
    positive class (binary) or of the most likely class (multiclass).

    Raises ValueError for shapes that disagree, values that are not finite, labels out of range.
    """
    return _scorer(task, y, prediction, threshold, own)(np.ones(len(y)))


def _scorer(
    task: Task, y: Array, prediction: Array, threshold: float | None, own: Sequence[OwnMetric]
) -> Callable[[Array], Metrics]:
    """All metrics as a function of row weights, the project's own after the task's."""
    metrics = scorer(task, y, prediction, threshold)
    rows = (*checked(task, y, prediction), threshold)
    return lambda weights: metrics(weights) | {m.name: float(m.score(*rows, weights)) for m in own}


def intervals(
    task: Task,
    y: Array,
    prediction: Array,
    threshold: float | None,
    *,
    clusters: Array | None = None,
    draws: int = 200,
    seed: int = 0,
    own: Sequence[OwnMetric] = (),
) -> dict[str, Interval]:
    """Bound every metric of `score` by a 95 % interval, as `bounds` does.

    `clusters` names the cluster of each row; without, every row is independent of the others.
    """
    metrics = _scorer(task, y, prediction, threshold, own)
    support = bounds.support(task, y, [(prediction, threshold)], clusters)
    values, drawn = _draw(metrics, support, draws, seed)
    return {
        name: Interval(value, *bounds.interval(name, value, drawn[name], support.count(name)))
        for name, value in values.items()
    }


def paired_intervals(
    task: Task,
    y: Array,
    challenger: tuple[Array, float | None],
    champion: tuple[Array, float | None],
    *,
    clusters: Array | None = None,
    draws: int = 200,
    seed: int = 0,
    own: Sequence[OwnMetric] = (),
) -> dict[str, Interval]:
    """Bound challenger less champion, for every metric, with the same weights for both.

    Each side is (prediction, threshold) over the same rows `y`.
    """
    support = bounds.support(task, y, [challenger, champion], clusters)
    (ours, our_draws), (theirs, their_draws) = (
        _draw(_scorer(task, y, *side, own), support, draws, seed) for side in (challenger, champion)
    )
    bounded = {
        name: bounds.difference(
            name, (ours[name], our_draws[name]), (theirs[name], their_draws[name]),
            support.count(name),
        )
        for name in ours
    }  # fmt: skip
    return {name: Interval(ours[name] - theirs[name], *bounded[name]) for name in ours}


def by_slice(
    task: Task,
    y: Array,
    prediction: Array,
    columns: pd.DataFrame,
    threshold: float | None,
    *,
    clusters: Array | None = None,
    draws: int = 100,
) -> pd.DataFrame:
    """Score the rows of each value of each column.

    One row per (slice, value): slice is the column's name, value its value as text (missing
    values as one group, last); rows; label_rate (binary) or label_mean (regression); then
    SLICE_METRICS[task]; low and high, the 95 % interval of the main metric (of `draws` draws), NaN
    where the rows are too few for one.
    Sorted by slice, then by value in its own order.
    """
    import pandas as pd

    y, prediction = checked(task, y, prediction)
    main, _ = main_metric(task)
    label = {"binary": ["label_rate"], "regression": ["label_mean"], "multiclass": []}[task]
    table, positions = [], pd.Series(range(len(y)), columns.index)
    for column in sorted(columns.columns):
        for value, rows in positions.groupby(columns[column], dropna=False, observed=True):
            own_clusters = None if clusters is None else clusters[rows]
            bounded = intervals(
                task, y[rows], prediction[rows], threshold, clusters=own_clusters, draws=draws
            )
            measured = [bounded[name].value for name in SLICE_METRICS[task]]
            text = "(missing)" if pd.isna(value) else _text(value)
            facts = str(column), text, len(rows), *[y[rows].mean() for _ in label]
            table.append((*facts, *measured, bounded[main].low, bounded[main].high))
    names = ["slice", "value", "rows", *label, *SLICE_METRICS[task], "low", "high"]
    return pd.DataFrame(table, columns=names)


def permutation_importance(
    predict: Callable[[pd.DataFrame], Array],
    frame: pd.DataFrame,
    y: Array,
    task: Task,
    *,
    rows: int,
    repeats: int,
    seed: int,
) -> pd.DataFrame:
    """Measure how much of the main metric is lost when one feature is shuffled among the rows.

    A random sample of about so many rows is measured, every class in it: all of them would take
    long and differ little.
    Columns: feature, importance (mean loss over the repeats, positive = useful), low and high
    (one standard deviation either side). Sorted by importance, greatest first, then by name.
    Source: Breiman, Random Forests (2001), section 10.
    """
    import pandas as pd

    name, greater_is_better = main_metric(task)
    sign = 1.0 if greater_is_better else -1.0
    classes = () if task == "regression" else tuple(map(str, np.unique(y)))
    kept = sample(y, rows, classes, seed)
    frame, y = frame.iloc[kept], y[kept]

    def quality(changed: pd.DataFrame) -> float:
        return sign * score(task, y, predict(changed), 0.5)[name]

    intact = quality(frame)
    importances = []
    for index, feature in enumerate(frame.columns):
        generator = np.random.default_rng([seed, index])
        values = frame[feature].array
        shuffled = (values.take(generator.permutation(len(frame))) for _ in range(repeats))
        losses = [intact - quality(frame.assign(**{feature: column})) for column in shuffled]
        mean, spread = float(np.mean(losses)), float(np.std(losses))
        importances.append((feature, mean, mean - spread, mean + spread))
    table = pd.DataFrame(importances, columns=["feature", "importance", "low", "high"])
    return table.sort_values(["importance", "feature"], ascending=[False, True], ignore_index=True)


def _text(value: object) -> str:
    """Write a slice's value; whole numbers that missing values made float lose their '.0'."""
    return f"{value:g}" if isinstance(value, float) else str(value)


def _draw(
    metrics: Callable[[Array], Metrics], support: bounds.Support, draws: int, seed: int
) -> tuple[Metrics, dict[str, Array]]:
    """Each metric's value on the rows, and its values with the weights of each draw."""
    values = metrics(np.ones(len(support.codes)))
    draws = draws if any(support.count(name) for name in values) else 0
    drawn = [metrics(weights) for weights in support.weights(draws, seed)]
    return values, {name: np.array([of[name] for of in drawn]) for name in values}
