"""Outcomes and predictions of each task, drawn from a seed."""

from __future__ import annotations

from typing import Any

import numpy as np

Case = tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]
THRESHOLD = 0.4


def binary(rows: int = 2000, seed: int = 0, decimals: int = 2) -> Case:
    """Labels drawn from the probabilities; rounding makes ties."""
    generator = np.random.default_rng(seed)
    probability = generator.beta(2, 4, rows).round(decimals)
    return (generator.random(rows) < probability).astype(int), probability


def multiclass(rows: int = 1500) -> Case:
    generator = np.random.default_rng(0)
    probability = generator.dirichlet([1, 2, 3], rows)
    return (probability.cumsum(axis=1) < generator.random((rows, 1))).sum(axis=1), probability


def regression(rows: int = 1500) -> Case:
    generator = np.random.default_rng(0)
    prediction = 1000 + generator.normal(0, 5, rows)
    return prediction + generator.gumbel(0, 3, rows), prediction


CASES = {"binary": binary(), "multiclass": multiclass(), "regression": regression()}
