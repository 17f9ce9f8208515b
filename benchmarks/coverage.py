"""How often 95 % intervals hold the true value, for every metric, simulated.

Each simulation draws rows of a known distribution, with two models, and asks for the intervals of
one model's metrics and of the differences. Rows are independent or share the random effect of one
of so many days. A line gives the lowest and the highest coverage of the metrics that have an
interval in most simulations. Both must be within two points of 95 %, but for two standard errors of
the simulation. Of the metrics of WIDE only the lowest counts: a calibration error is near its limit
of 0, and the average precision of few positives varies more in the draws than in truth, so their
intervals are wider than need be. Of errors with heavy tails 30 rows show too little: the RMSE's
interval holds the true value in some 90 % there, so its scene has normal errors.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from multiprocessing import get_context
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.figure import Figure, progress
from mlops.contract.project import Task
from mlops.evaluation import metrics, weighted

Array = NDArray[Any]
Rows = tuple[Array, Array, Array, Array | None, Array]
WIDE = ("calibration_error", "average_precision")
# Rows that stand for the population; several such where a scene has many rows.
POPULATION = 1_000_000


@dataclass(frozen=True)
class Scene:
    """A distribution of rows; `positives` are those expected, `days` 0 for independent rows.

    The models are equally good, or the second one is surer of itself by a factor. As few `draws` as
    the gate makes for a slice cost least; Student's t allows for them.
    """

    task: Task
    rows: int
    positives: int = 0
    days: int = 0
    repeats: int = 1000
    draws: int = 60
    surer: float = 1.0

    @property
    def name(self) -> str:
        parts = [f"{self.task}, {self.rows:,} rows"]
        parts += [f"{self.positives:,} positive"] if self.positives else []
        parts += [f"{self.days} days"] if self.days else []
        return ", ".join(parts + ["unequal"] * (self.surer != 1))

    @property
    def threshold(self) -> float | None:
        return float(_logistic(_intercept(self) + 1)) if self.task == "binary" else None

    def draw(self, seed: int, rows: int = 0) -> Rows:
        """Outcomes, both models' predictions, days, and a binary outcome's probability.

        With `rows`, each has a day of its own.
        """
        generator, days, chance = np.random.default_rng(seed), None, np.ones(0)
        count, wide = rows or self.rows, (3,) if self.task == "multiclass" else ()
        signal = generator.normal(size=(count, *wide))
        effect = np.zeros_like(signal)
        if self.days:
            days = np.arange(count) % (rows or self.days)
            effect = generator.normal(0, 0.4, (rows or self.days, *wide))[days]
        seen = [signal + generator.normal(0, 0.7, signal.shape) for _ in range(2)]
        seen[1] *= self.surer
        if self.task == "binary":
            start = _intercept(self)
            chance = _logistic(start + 1.2 * signal + effect)
            y = generator.random(count) < chance
            first, second = (_logistic(start + 0.8 * x) for x in seen)
        elif self.task == "multiclass":
            y = (1.2 * signal + effect + generator.gumbel(size=signal.shape)).argmax(axis=1)
            first, second = (np.exp(0.8 * x) for x in seen)
            first, second = (x / x.sum(axis=1, keepdims=True) for x in (first, second))
        else:
            noise = generator.laplace if self.rows > 100 else generator.normal
            y = signal + effect + noise(0, 0.5, count)
            first, second = (0.7 * x for x in seen)
        return y.astype(float), first, second, days, chance


FEW = (1, 3, 5)
SCENES = (
    *(Scene("binary", 8000, positives, repeats=400) for positives in FEW),
    Scene("binary", 30, 15),
    Scene("binary", 1000, 20),
    Scene("binary", 3000, 100),
    Scene("binary", 3000, 1000),
    Scene("binary", 3000, 1000, surer=1.6),
    Scene("binary", 100_000, 100, repeats=400, draws=30),
    Scene("binary", 1000, 300, days=30),
    Scene("binary", 10_000, 100, days=60),
    Scene("multiclass", 60),
    Scene("multiclass", 1000, days=30),
    Scene("regression", 30),
    Scene("regression", 300),
    Scene("regression", 1000, days=30),
    Scene("regression", 1000, days=30, surer=1.2),
    Scene("regression", 100_000, days=100, repeats=400, draws=30),
)


def measure() -> Iterator[Figure]:
    """The coverage of intervals of metrics, and of differences, in each scene."""
    # A process for each core: the arrays are small, so threads would wait for one another.
    with get_context("spawn").Pool(os.cpu_count()) as pool:
        for scene in SCENES:
            progress(f"coverage: {scene.name}")
            count = max(1, 100 * (scene.days or scene.rows) // POPULATION)
            drawn = pool.starmap(_population, [(scene, seed) for seed in range(count)])
            truth = tuple(
                {name: np.mean([of[name] for of in part]) for name in part[0]}
                for part in zip(*drawn, strict=True)
            )
            tasks = [(scene, *truth, seed) for seed in range(scene.repeats)]
            held = pool.starmap(_held, tasks, chunksize=5)
            for kind, part in zip(("metrics", "differences"), zip(*held, strict=True), strict=True):
                yield _figure(f"{scene.name}: {kind}", part, scene.positives in FEW)


def _figure(name: str, held: tuple[dict[str, bool | None], ...], few: bool) -> Figure:
    """The lowest and the highest coverage of the metrics; none may be claimed of too few."""
    given = {name: [inside for of in held if (inside := of[name]) is not None] for name in held[0]}
    coverage = {
        metric: 100 * float(np.mean(inside))
        for metric, inside in given.items()
        if len(inside) >= len(held) / 2
    }
    if few or not coverage:
        share = max(len(inside) for inside in given.values()) / len(held)
        return Figure(name, f"{share:.1%} have an interval", "at most 5 %", share <= 0.05)
    lowest = min(coverage, key=coverage.__getitem__)
    highest = max((name for name in coverage if name not in WIDE), key=coverage.__getitem__)
    text = ", ".join(f"{coverage[metric]:.1f} {metric}" for metric in (lowest, highest))
    # Two standard errors of the simulation itself.
    error = 200 * float(np.sqrt(0.95 * 0.05 / len(held)))
    goal = f"93 to 97 %, 2 se {error:.1f}"
    good = 93 - error <= coverage[lowest] and coverage[highest] <= 97 + error
    return Figure(name, text, goal, good)


def _held(
    scene: Scene, truth: dict[str, float], change: dict[str, float], seed: int
) -> tuple[dict[str, bool | None], dict[str, bool | None]]:
    """Whether each interval holds the true value; None without an interval."""
    y, first, second, days, _ = scene.draw(seed)
    sides = (first, scene.threshold), (second, scene.threshold)
    how: Any = {"clusters": days, "draws": scene.draws, "seed": seed}
    alone = metrics.intervals(scene.task, y, *sides[0], **how)
    paired = metrics.paired_intervals(scene.task, y, *sides, **how)
    return (
        {name: _inside(interval, truth[name]) for name, interval in alone.items()},
        {name: _inside(interval, change[name]) for name, interval in paired.items()},
    )


def _inside(interval: metrics.Interval, truth: float) -> bool | None:
    if np.isnan(interval.low):
        return None
    return bool(interval.low - 1e-12 <= truth <= interval.high + 1e-12)


def _population(scene: Scene, seed: int) -> tuple[dict[str, float], dict[str, float]]:
    """The metrics of a population, and the differences."""
    y, *predictions, _, chance = scene.draw(POPULATION + seed, POPULATION)
    weights = np.ones(POPULATION)
    if scene.task == "binary":
        # Both outcomes of each row, by their probabilities: a rare one is not left to chance.
        y, predictions = np.repeat([1.0, 0.0], POPULATION), [np.tile(x, 2) for x in predictions]
        weights = np.concatenate([chance, 1 - chance])
    first, second = (
        weighted.scorer(scene.task, y, x, scene.threshold)(weights) for x in predictions
    )
    equal = scene.surer == 1
    return first, {name: 0 if equal else value - second[name] for name, value in first.items()}


@cache
def _intercept(scene: Scene) -> float:
    """The one with which so many rows are positive on average."""
    effects = np.random.default_rng(0).normal(0, np.hypot(1.2, 0.4 * bool(scene.days)), 100_000)
    starts = np.linspace(-12, 2, 141)
    rates = [_logistic(start + effects).mean() for start in starts]
    return float(np.interp(scene.positives / scene.rows, rates, starts))


def _logistic(value: Any) -> Any:
    return 1 / (1 + np.exp(-value))
