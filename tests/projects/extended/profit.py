"""A metric: what a warning gains on average, ten for a late trip less one for any other."""

from typing import Any

GREATER_IS_BETTER = True


def score(y: Any, prediction: Any, threshold: float | None, weights: Any) -> float:
    return float(((prediction >= threshold) * (11 * y - 1) * weights).sum() / weights.sum())
