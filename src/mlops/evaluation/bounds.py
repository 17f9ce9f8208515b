"""Bounds of 95 % intervals by the bootstrap's standard error, and what is too few for one.

Rows of one cluster (a day, a group) are not independent, so whole clusters are weighted, by the
Bayesian bootstrap (Rubin 1981): its weights are never 0, so no draw leaves a class out. Student's
t allows for few clusters and few draws. Shares get Wilson's score interval (1927) with the number
of rows that the standard error implies, errors an interval on the logarithmic scale, all else a
symmetric one.
`python -m benchmarks coverage` simulates how often they hold the true value.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from mlops.contract.project import Task
from mlops.evaluation.weighted import Array

# Fewer clusters with rows of a class, or fewer in all, give no interval.
FEWEST = 10
# The average precision of few positives is too high on average.
FEWEST_POSITIVES = 30
SHARES = ("roc_auc", "average_precision", "accuracy", "precision", "recall", "f1")
SIZES = ("log_loss", "brier", "mae", "rmse", "median_absolute_error")
# Means over all rows; any other metric of classes is as uncertain as its rarest class makes it.
MEANS = ("log_loss", "brier", "accuracy")


@dataclass(frozen=True)
class Support:
    """The independent clusters behind metrics, each row its own where none are given.

    `codes` number each row's cluster; `whole` counts the clusters, `rare` those with rows outside
    the most frequent class, `rarest` and `commonest` those of the rarest and of the most frequent
    class, `alarms` those of the class that is predicted least often; all equal in a regression.
    """

    codes: Array
    whole: int
    rare: int
    rarest: int
    commonest: int
    alarms: int

    @property
    def few(self) -> str:
        """What is too few for the interval of any metric, with the limit; "" when nothing is."""
        unit = "rows" if self.whole == len(self.codes) else "clusters of rows"
        outside = " outside the most frequent class" if self.rare < self.whole else ""
        text = f"{unit}{outside}: {self.rare}, at least {FEWEST} needed"
        return text if self.rare < FEWEST else ""

    def count(self, name: str) -> int:
        """The clusters that decide how uncertain a metric is; 0 when they are too few."""
        found = self.rare if name in MEANS else self.rarest
        found = min(found, self.alarms) if name in ("precision", "f1") else found
        if found < (FEWEST_POSITIVES if name == "average_precision" else FEWEST):
            return 0
        if name in MEANS:
            return self.whole
        if name == "rmse":
            # Few rows decide a mean of squares: those of normal errors count as a third (Kish).
            return min(self.whole, len(self.codes) // 3)
        return min(self.whole, found + found**2 // self.commonest)

    def weights(self, draws: int, seed: int) -> Iterator[Array]:
        """The rows' weights in each draw, 1 on average."""
        generator = np.random.default_rng(seed)
        for _ in range(draws):
            yield generator.exponential(size=self.whole)[self.codes]


def support(
    task: Task, y: Array, sides: Sequence[tuple[Array, float | None]], clusters: Array | None
) -> Support:
    """Count the clusters behind the metrics of these rows, for each (prediction, threshold)."""
    codes = np.unique(np.arange(len(y)) if clusters is None else clusters, return_inverse=True)[1]
    whole = _distinct(codes)
    if task == "regression":
        return Support(codes, whole, whole, whole, whole, whole)
    labels = range(2 if task == "binary" else sides[0][0].shape[1])
    classes = [_distinct(codes[y == label]) for label in labels]
    rare = _distinct(codes[y != np.bincount(y.astype(np.intp)).argmax()])
    alarms = [
        codes[prediction >= threshold]
        if threshold is not None and task == "binary"
        else codes[prediction.argmax(axis=1) == label]
        for prediction, threshold in sides
        for label in (labels if task == "multiclass" else (1,))
    ]
    return Support(codes, whole, rare, min(classes), max(classes), min(map(_distinct, alarms)))


def interval(name: str, value: float, draws: Array, count: int) -> tuple[float, float]:
    """Bound a metric, given its values in draws of weights; NaN where they are not defined."""
    t, error = _student(draws, count)
    if math.isnan(value + error):
        return math.nan, math.nan
    if name == "calibration_error":
        # A sum of absolute gaps grows by chance alone, in the draws once more: the squares add.
        square, spread = 2 * value**2 - draws.mean() ** 2, t * _student(draws**2, count)[1]
        return math.sqrt(max(square - spread, 0)), math.sqrt(max(square + spread, value**2))
    if name in SHARES:
        return wilson(value, error, t, count)
    if name in SIZES and value > 0:
        factor = math.exp(t * error / value)
        return value / factor, value * factor
    if name == "r2" and value < 1:
        factor = math.exp(t * error / (1 - value))
        return 1 - (1 - value) * factor, 1 - (1 - value) / factor
    return _symmetric(value, draws, count)


def difference(
    name: str, ours: tuple[float, Array], theirs: tuple[float, Array], count: int
) -> tuple[float, float]:
    """Bound the first less the second of two (value, draws), with the same weights for both."""
    (value, draws), (reference, drawn) = ours, theirs
    if name != "calibration_error":
        return _symmetric(value - reference, draws - drawn, count)
    # Chance makes each sum of gaps larger by an amount of its own: the ends of both bound it.
    (low, high), (least, most) = interval(name, *ours, count), interval(name, *theirs, count)
    return low - most, high - least


def _symmetric(value: float, draws: Array, count: int) -> tuple[float, float]:
    t, error = _student(draws, count)
    return value - t * error, value + t * error


def wilson(share: float, error: float, t: float, count: int) -> tuple[float, float]:
    """Wilson's score interval of a share with this standard error; with none, of `count` rows."""
    variance = share * (1 - share)
    rows = variance / error**2 if variance > 0 and error > 0 else count
    centre = (share + t**2 / (2 * rows)) / (1 + t**2 / rows)
    half = t * math.sqrt(variance / rows + (t / (2 * rows)) ** 2) / (1 + t**2 / rows)
    return min(max(centre - half, 0), share), max(min(centre + half, 1), share)


def _student(draws: Array, count: int) -> tuple[float, float]:
    """The 97.5 % quantile of Student's t, and the standard error, which draws make too small.

    Few clusters and few draws leave the error itself uncertain (Welch and Satterthwaite, 1946).
    """
    from scipy.stats import t

    if not count:
        return math.nan, math.nan
    error = float(draws.std(ddof=1)) * math.sqrt((count + 1) / (count - 1))
    return float(t.ppf(0.975, 1 / (1 / (count - 1) + 1 / (len(draws) - 1)))), error


def _distinct(codes: Array) -> int:
    return len(np.unique(codes))
