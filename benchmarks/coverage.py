"""How often 95 % intervals hold the true value, for every metric, simulated.

Each simulation draws rows of a known distribution, with two models that are equally good, and asks
for the intervals of one model's metrics and of the differences. Rows are independent or share the
random effect of one of so many days. A line gives the lowest and the highest coverage of the
metrics that have an interval in most simulations. The lowest may fall short of 93 % by two standard
errors of the simulation. The highest has no goal: near a limit of a metric, such as a calibration
error of 0, an interval is wider than need be. Of errors with heavy tails 30 rows show too little:
the RMSE's interval holds the true value in some 90 % there, so its scene has normal errors.
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
# Within two points of 95 %.
GOAL = 93.0
# Rows that stand for the whole population.
POPULATION = 1_000_000


@dataclass(frozen=True)
class Scene:
    """A distribution of rows; `positives` are those expected, `days` 0 for independent rows."""

    task: Task
    rows: int
    positives: int = 0
    days: int = 0
    repeats: int = 500
    draws: int = 100

    @property
    def name(self) -> str:
        parts = [f"{self.task}, {self.rows:,} rows"]
        parts += [f"{self.positives:,} positive"] if self.positives else []
        parts += [f"{self.days} days"] if self.days else []
        return ", ".join(parts)

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
    *(Scene("binary", 8000, positives, repeats=200) for positives in FEW),
    Scene("binary", 30, 15),
    Scene("binary", 1000, 20),
    Scene("binary", 3000, 100),
    Scene("binary", 3000, 1000),
    Scene("binary", 100_000, 100, repeats=100, draws=30),
    Scene("binary", 1000, 300, days=30),
    Scene("binary", 10_000, 100, days=60, repeats=200),
    Scene("multiclass", 60),
    Scene("multiclass", 1000, days=30),
    Scene("regression", 30),
    Scene("regression", 300),
    Scene("regression", 1000, days=30),
    Scene("regression", 100_000, days=100, repeats=100, draws=30),
)


def measure() -> Iterator[Figure]:
    """The coverage of intervals of metrics, and of differences, in each scene."""
    # A process for each core: the arrays are small, so threads would wait for one another.
    with get_context("spawn").Pool(os.cpu_count()) as pool:
        for scene in SCENES:
            progress(f"coverage: {scene.name}")
            truth = _truth(scene)
            tasks = [(scene, truth, seed) for seed in range(scene.repeats)]
            held = pool.starmap(_held, tasks, chunksize=5)
            for kind, part in zip(("metrics", "differences"), zip(*held, strict=True), strict=True):
                yield _figure(f"{scene.name}: {kind}", part, scene.positives in FEW)


def _figure(name: str, held: tuple[dict[str, bool | None], ...], few: bool) -> Figure:
    """The lowest and the highest coverage of the metrics; none may be claimed of too few."""
    answers = {name: [of[name] for of in held] for name in held[0]}
    given = {name: [inside for inside in of if inside is not None] for name, of in answers.items()}
    coverage = {
        metric: 100 * float(np.mean(inside))
        for metric, inside in given.items()
        if len(inside) >= len(held) / 2
    }
    if few or not coverage:
        share = max(len(inside) for inside in given.values()) / len(held)
        return Figure(name, f"{share:.1%} have an interval", "at most 5 %", share <= 0.05)
    ends = [f(coverage.items(), key=lambda item: item[1]) for f in (min, max)]
    text = ", ".join(f"{share:.1f} {metric}" for metric, share in ends)
    # Two standard errors of the simulation itself.
    least = GOAL - 200 * np.sqrt(0.95 * 0.05 / len(held))
    return Figure(name, text, f"at least {least:.1f} %", bool(ends[0][1] >= least))


def _held(
    scene: Scene, truth: dict[str, float], seed: int
) -> tuple[dict[str, bool | None], dict[str, bool | None]]:
    """Whether each interval holds the true value; None without an interval."""
    y, first, second, days, _ = scene.draw(seed)
    sides = (first, scene.threshold), (second, scene.threshold)
    alone = metrics.intervals(scene.task, y, *sides[0], clusters=days, draws=scene.draws)
    paired = metrics.paired_intervals(scene.task, y, *sides, clusters=days, draws=scene.draws)
    return (
        {name: _inside(interval, truth[name]) for name, interval in alone.items()},
        {name: _inside(interval, 0) for name, interval in paired.items()},
    )


def _inside(interval: metrics.Interval, truth: float) -> bool | None:
    if np.isnan(interval.low):
        return None
    return bool(interval.low - 1e-12 <= truth <= interval.high + 1e-12)


def _truth(scene: Scene) -> dict[str, float]:
    """The metrics of the population."""
    y, prediction, _, _, chance = scene.draw(POPULATION, POPULATION)
    weights = np.ones(POPULATION)
    if scene.task == "binary":
        # Both outcomes of each row, by their probabilities: a rare one is not left to chance.
        y, prediction = np.repeat([1.0, 0.0], POPULATION), np.tile(prediction, 2)
        weights = np.concatenate([chance, 1 - chance])
    return weighted.scorer(scene.task, y, prediction, scene.threshold)(weights)


@cache
def _intercept(scene: Scene) -> float:
    """The one with which so many rows are positive on average."""
    effects = np.random.default_rng(0).normal(0, np.hypot(1.2, 0.4 * bool(scene.days)), 100_000)
    starts = np.linspace(-12, 2, 141)
    rates = [_logistic(start + effects).mean() for start in starts]
    return float(np.interp(scene.positives / scene.rows, rates, starts))


def _logistic(value: Any) -> Any:
    return 1 / (1 + np.exp(-value))
