"""Bins of a column, cut where its reference lies.

Numeric columns are cut at the reference's deciles, so that one extreme value does not empty the
other bins; categorical ones into its most frequent values, and all others together.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from mlops.contract.bundle import Array
from mlops.evaluation.report.wording import number

if TYPE_CHECKING:
    import pandas as pd

BINS = 10
# A number that at least this share of the reference has is a bin of its own.
SPIKE = 0.05
# A category that a smaller share of the reference has is among the others.
RARE = 0.01
OTHERS = "others"


@dataclass(frozen=True)
class Bins:
    """Bins of one column; an edge belongs to the bin on its left, a category to its own bin."""

    labels: tuple[str, ...]
    edges: tuple[float, ...] = ()
    categories: tuple[str, ...] = ()

    def counts(self, values: pd.Series[Any]) -> Array:
        """Count the values in each bin, missing ones left out; shape (bins,)."""
        present = values.dropna()
        if self.categories:
            codes = {category: code for code, category in enumerate(self.categories)}
            bins = present.map(codes).fillna(len(codes)).to_numpy(dtype=np.intp)
        else:
            bins = np.searchsorted(np.array(self.edges), present.to_numpy(dtype=np.float64))
        return np.bincount(bins, minlength=len(self.labels))


def numeric(reference: pd.Series[Any]) -> Bins:
    """Cut numbers at the deciles of the reference."""
    present = reference.dropna().to_numpy(dtype=np.float64)
    if not len(present):
        return Bins(("any",))
    deciles = np.quantile(present, np.arange(1, BINS) / BINS, method="lower")
    values, counts = np.unique(present, return_counts=True)
    spikes = values[counts >= SPIKE * len(present)]
    # The next smaller float ends the bin before a spike.
    edges = np.unique(np.concatenate([deciles, spikes, np.nextafter(spikes, -np.inf)]))
    return Bins(_interval_labels(edges), tuple(float(edge) for edge in edges))


def categorical(reference: pd.Series[Any]) -> Bins:
    """Cut categories into the most frequent of the reference, and the others."""
    shares = reference.dropna().value_counts(normalize=True)
    ordered = sorted(shares[shares >= RARE].items(), key=lambda item: (-item[1], str(item[0])))
    frequent = tuple(str(category) for category, _ in ordered[:BINS])
    return Bins((*frequent, OTHERS), categories=frequent)


def _interval_labels(edges: Array) -> tuple[str, ...]:
    inner = []
    for low, high in pairwise(edges):
        spike = np.nextafter(high, -np.inf) == low
        inner.append(number(high) if spike else f"{number(low)} to {number(high)}")
    return (f"to {number(edges[0])}", *inner, f"over {number(edges[-1])}")
