"""The population stability index: how far a distribution has moved, from two histograms.

Source: N. Siddiqi, Credit Risk Scorecards (2006), chapter 10; for its distribution under chance,
B. Yurdakul, Statistical Properties of Population Stability Index (2018).
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

# What an empty bin is counted as, in rows: the logarithm of zero is infinite.
EMPTY = 0.5
# How far above its mean chance alone may carry the index, in standard deviations.
SIGMAS = 3.0


def stability_index(expected: ArrayLike, actual: ArrayLike) -> float:
    """The sum over bins of (a - e) * ln(a / e), e and a being the shares of a bin's rows.

    `expected` and `actual` are counts of rows in the same bins, shape (bins,). A bin that is empty
    on one side counts as half a row there: of few rows an empty bin proves little. The index is 0
    when either side has no rows; by convention 0.1 is a small shift and 0.2 a large one.
    """
    before, after = np.asarray(expected, dtype=float), np.asarray(actual, dtype=float)
    if not before.sum() or not after.sum():
        return 0.0
    filled = (before > 0) | (after > 0)
    counts = (np.maximum(side[filled], EMPTY) for side in (before, after))
    e, a = (side / side.sum() for side in counts)
    return float(np.sum((a - e) * np.log(a / e)))


def index_beyond_chance(expected: ArrayLike, actual: ArrayLike) -> float:
    """The index of samples of n and m rows, less what chance makes of so few; at least 0.

    For two samples of one population over B bins the index is about (1/n + 1/m) times a chi-squared
    variable with B - 1 degrees of freedom (Yurdakul 2018): its mean and SIGMAS of its standard
    deviations are taken off.
    """
    before, after = np.asarray(expected, dtype=float), np.asarray(actual, dtype=float)
    if not (index := stability_index(before, after)):
        return 0.0
    freedom = max(int(np.count_nonzero(before + after)) - 1, 1)
    scale = float(1 / before.sum() + 1 / after.sum())
    chance = (freedom + SIGMAS * math.sqrt(2 * freedom)) * scale
    return max(index - chance, 0.0)
