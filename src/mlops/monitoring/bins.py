"""A column cut into bins by its reference: where it lies, whatever the window holds.

Numbers are cut at the reference's tenths, so that one far value does not empty the others' bins;
words are the reference's most frequent, and all others together.
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
# A value that so many reference rows share is a bin of its own.
ATOM = 0.05
# A word that fewer reference rows share is among the others.
SELDOM = 0.01
OTHERS = "others"


@dataclass(frozen=True)
class Cut:
    """Bins of one column; an edge belongs to the bin on its left, a word to that of its place."""

    labels: tuple[str, ...]
    edges: tuple[float, ...] = ()
    words: tuple[str, ...] = ()

    def codes(self, values: pd.Series[Any]) -> Array:
        """The bin's number of every value that is not missing, in order."""
        present = values.dropna()
        if not self.words:
            return np.searchsorted(np.array(self.edges), present.to_numpy(dtype=np.float64))
        places = {word: place for place, word in enumerate(self.words)}
        codes: Array = present.map(places).fillna(len(self.words)).to_numpy(dtype=np.intp)
        return codes

    def shares(self, codes: Array) -> Array:
        """The share of each bin."""
        counts = np.bincount(codes, minlength=len(self.labels))
        shares: Array = counts / max(len(codes), 1)
        return shares


def numbers(reference: pd.Series[Any]) -> Cut:
    """Cut numbers at the tenths of the reference."""
    present = np.sort(reference.dropna().to_numpy(dtype=np.float64))
    if not len(present):
        return Cut(("any",), ())
    tenths = np.unique(np.quantile(present, np.arange(1, BINS) / BINS, method="lower"))
    values, counts = np.unique(present, return_counts=True)
    atoms = values[counts >= ATOM * len(present)]
    # The float just below ends the bin before an atom.
    edges = np.unique(np.concatenate([tenths, atoms, np.nextafter(atoms, -np.inf)]))
    return Cut(_intervals(edges), tuple(float(edge) for edge in edges))


def words(reference: pd.Series[Any]) -> Cut:
    """Cut words into the most frequent of the reference, and the others."""
    shares = reference.dropna().value_counts(normalize=True)
    ordered = sorted(shares[shares >= SELDOM].items(), key=lambda item: (-item[1], str(item[0])))
    frequent = tuple(str(word) for word, _ in ordered[:BINS])
    return Cut((*frequent, OTHERS), words=frequent)


def _intervals(edges: Array) -> tuple[str, ...]:
    inner = []
    for low, high in pairwise(edges):
        atom = np.nextafter(high, -np.inf) == low
        inner.append(number(high) if atom else f"{number(low)} to {number(high)}")
    return (f"to {number(edges[0])}", *inner, f"over {number(edges[-1])}")
