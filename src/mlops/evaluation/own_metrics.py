"""Metrics of the project's own: modules that `evaluate.metrics` and `gate.limits` name by path.

Such a module has `score(y, prediction, threshold, weights) -> float`, over float64 arrays as in
`metrics.py` and a weight for each row (2 is the row given twice; most are no whole numbers), and
`GREATER_IS_BETTER`. NaN is a metric that the rows leave undefined.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from mlops.base.errors import UserError
from mlops.contract import extensions
from mlops.evaluation.weighted import Array

ATTRIBUTES = ("score", "GREATER_IS_BETTER")


@dataclass(frozen=True)
class OwnMetric:
    """A metric by its module's path."""

    name: str
    score: Callable[[Array, Array, float | None, Array], float]
    greater_is_better: bool


def load(names: Iterable[str], setting: str) -> tuple[OwnMetric, ...]:
    """The metrics of these modules. Raises UserError, which begins with the setting."""
    metrics = []
    for name in dict.fromkeys(names):
        if "." not in name:
            raise UserError(
                f"{setting}: found {name!r}, expected a module's path such as churn.metrics.profit"
            )
        module = extensions.resolve(setting, name, __package__ or "", ATTRIBUTES)
        metrics.append(OwnMetric(name, module.score, bool(module.GREATER_IS_BETTER)))
    return tuple(metrics)
