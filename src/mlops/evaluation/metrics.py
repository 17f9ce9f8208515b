"""Quality of predictions: point metrics, bootstrap intervals, slices, importance.

By task, a prediction is: binary, the probability of the positive class, shape (n,); multiclass,
probabilities of shape (n, k) for labels 0..k-1; regression, the value, shape (n,). A metric that
the rows leave undefined (the ROC of one class, the precision of no alarm) is NaN, never an error.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from mlops.contract.project import Task
from mlops.evaluation.own_metrics import OwnMetric

# Re-exported: the types of the signatures below.
from mlops.evaluation.weighted import Array as Array
from mlops.evaluation.weighted import Metrics as Metrics
from mlops.evaluation.weighted import checked, scorer

if TYPE_CHECKING:
    import pandas as pd

SLICE_METRICS: dict[Task, tuple[str, ...]] = {
    "binary": ("roc_auc", "average_precision", "brier", "recall", "precision"),
    "multiclass": ("log_loss", "roc_auc", "brier", "accuracy", "f1"),
    "regression": ("rmse", "mae", "r2", "bias"),
}
_MAIN_METRIC: dict[Task, tuple[str, bool]] = {
    "binary": ("roc_auc", True),
    "multiclass": ("log_loss", False),
    "regression": ("rmse", False),
}


# Metrics of which less is better; of `bias`, less in absolute value.
ERRORS = ("log_loss", "brier", "calibration_error", "mae", "rmse", "median_absolute_error", "bias")


@dataclass(frozen=True)
class Interval:
    """A metric on the rows given, with the bounds of its 95 % confidence interval."""

    value: float
    low: float
    high: float


def main_metric(task: Task) -> tuple[str, bool]:
    """Name the metric that ranks models of this task, and whether greater is better."""
    return _MAIN_METRIC[task]


def less_is_better(name: str, own: Sequence[OwnMetric] = ()) -> bool:
    """Whether a metric is an error: less is better; of `bias`, less in either direction."""
    return name in ERRORS or any(m.name == name and not m.greater_is_better for m in own)


def score(
    task: Task,
    y: Array,
    prediction: Array,
    threshold: float | None,
    own: Sequence[OwnMetric] = (),
) -> Metrics:
    """Compute the point metrics of a task, and the project's own; they equal scikit-learn's.

    binary: roc_auc, average_precision, log_loss, brier, calibration_error, accuracy, precision,
    recall, f1 (positive where probability >= threshold). multiclass: the same without
    average_precision; roc_auc one-versus-rest, precision, recall and f1 are macro averages.
    regression: mae, rmse, r2, bias (predicted less actual), median_absolute_error, in y's unit.
    calibration_error is the expected calibration error over ten bins of equal weight, of the
    positive class (binary) or of the most likely class (multiclass).

    Raises ValueError for shapes that disagree, values that are not finite, labels out of range.
    """
    return _scorer(task, y, prediction, threshold, own)(np.ones(len(y)))


def _scorer(
    task: Task, y: Array, prediction: Array, threshold: float | None, own: Sequence[OwnMetric]
) -> Callable[[Array], Metrics]:
    """All metrics as a function of row weights, the project's own after the task's."""
    metrics = scorer(task, y, prediction, threshold)
    if not own:
        return metrics
    labels, scores = checked(task, y, prediction)

    def with_own(weights: Array) -> Metrics:
        added = {m.name: float(m.score(labels, scores, threshold, weights)) for m in own}
        return metrics(weights) | added

    return with_own


def intervals(
    task: Task,
    y: Array,
    prediction: Array,
    threshold: float | None,
    *,
    draws: int = 200,
    seed: int = 0,
    own: Sequence[OwnMetric] = (),
) -> dict[str, Interval]:
    """Bound every metric of `score` by a 95 % percentile bootstrap over the rows.

    A draw is a vector of row counts, used as weights, so that the rows are sorted only once.
    """
    metrics = _scorer(task, y, prediction, threshold, own)
    resampled = [metrics(counts) for counts in _row_counts(len(y), draws, seed)]
    return _summarise(metrics(np.ones(len(y))), resampled)


def paired_intervals(
    task: Task,
    y: Array,
    challenger: tuple[Array, float | None],
    champion: tuple[Array, float | None],
    *,
    draws: int = 200,
    seed: int = 0,
    own: Sequence[OwnMetric] = (),
) -> dict[str, Interval]:
    """Bound challenger less champion, for every metric, by a bootstrap that draws rows for both.

    Each side is (prediction, threshold) over the same rows `y`.
    """
    score_challenger, score_champion = (
        _scorer(task, y, *side, own) for side in (challenger, champion)
    )

    def difference(weights: Array) -> Metrics:
        reference = score_champion(weights)
        return {name: value - reference[name] for name, value in score_challenger(weights).items()}

    resampled = [difference(counts) for counts in _row_counts(len(y), draws, seed)]
    point = difference(np.ones(len(y)))
    return {
        name: _percentiles(value, [d[name] for d in resampled]) for name, value in point.items()
    }


def by_slice(
    task: Task,
    y: Array,
    prediction: Array,
    columns: pd.DataFrame,
    threshold: float | None,
    *,
    draws: int = 100,
) -> pd.DataFrame:
    """Score the rows of each value of each column.

    One row per (slice, value): slice is the column's name, value its value as text (missing
    values as one group, last); rows; label_rate (binary) or label_mean (regression); then
    SLICE_METRICS[task]; low and high, the 95 % interval of the main metric (of `draws` draws).
    Sorted by slice, then by value in its own order.
    """
    import pandas as pd

    y, prediction = checked(task, y, prediction)
    main, _ = main_metric(task)
    label = {"binary": ["label_rate"], "regression": ["label_mean"], "multiclass": []}[task]
    measured = ["rows", *label, *SLICE_METRICS[task], "low", "high"]

    def score_rows(labels: Array, positions: Array) -> Metrics:
        bounded = intervals(task, labels, prediction[positions], threshold, draws=draws)
        metrics = {name: interval.value for name, interval in bounded.items()}
        facts = {"rows": len(labels), "label_rate": labels.mean(), "label_mean": labels.mean()}
        bounds = {"low": bounded[main].low, "high": bounded[main].high}
        return {name: (facts | metrics | bounds)[name] for name in measured}

    empty = pd.DataFrame(columns=["slice", "value", *measured])
    parts = [_score_column(columns[name], y, score_rows) for name in sorted(columns.columns)]
    return pd.concat(parts, ignore_index=True) if parts else empty


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

    At most so many rows are measured, evenly spread: all of them would take long and differ little.
    Columns: feature, importance (mean loss over the repeats, positive = useful), low and high
    (one standard deviation either side). Sorted by importance, greatest first, then by name.
    Source: Breiman, Random Forests (2001), section 10.
    """
    import pandas as pd

    name, greater_is_better = main_metric(task)
    sign = 1.0 if greater_is_better else -1.0
    kept = np.unique(np.linspace(0, len(frame) - 1, min(len(frame), rows), dtype=int))
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


def _score_column(
    column: pd.Series[Any], y: Array, score_rows: Callable[[Array, Array], Metrics]
) -> pd.DataFrame:
    import pandas as pd

    codes, values = pd.factorize(column, sort=True)
    texts = [*map(_text, values), "(missing)"]
    # Missing values, whose code is -1, come last.
    codes = np.where(codes < 0, len(values), codes)
    groups = [(texts[code], np.flatnonzero(codes == code)) for code in np.unique(codes)]
    return pd.DataFrame(
        {"slice": str(column.name), "value": value, **score_rows(y[rows], rows)}
        for value, rows in groups
    )


def _text(value: object) -> str:
    """Write a slice's value; whole numbers that missing values made float lose their '.0'."""
    return f"{value:g}" if isinstance(value, float) else str(value)


def _row_counts(rows: int, draws: int, seed: int) -> Iterator[Array]:
    """Yield how often each row occurs in each bootstrap resample of equal size."""
    generator = np.random.default_rng(seed)
    for _ in range(draws):
        drawn = generator.integers(0, rows, rows)
        yield np.bincount(drawn, minlength=rows).astype(np.float64)


def _summarise(point: Metrics, resampled: Sequence[Metrics]) -> dict[str, Interval]:
    draws = {name: np.array([draw[name] for draw in resampled]) for name in point}
    # Resampling adds its own noise to a sum of absolute gaps, so the raw percentiles of a well
    # calibrated model lie above its value: subtract that bias.
    gaps = draws.get("calibration_error")
    if gaps is not None and len(gaps):
        draws["calibration_error"] = np.maximum(gaps + point["calibration_error"] - gaps.mean(), 0)
    return {name: _percentiles(value, draws[name]) for name, value in point.items()}


def _percentiles(value: float, draws: Sequence[float] | Array) -> Interval:
    defined = np.asarray(draws)[~np.isnan(draws)]
    if not len(defined):
        return Interval(value, float("nan"), float("nan"))
    low, high = np.percentile(defined, [2.5, 97.5])
    return Interval(value, float(low), float(high))
