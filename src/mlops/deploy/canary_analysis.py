"""Whether a new version may go on: a decision on what it and the running one have answered."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mlops.deploy.manifest import Limits
from mlops.deploy.target import Health

Array = np.ndarray[Any, np.dtype[Any]]

# Below, a difference in time is the machine's.
NOISE_SECONDS = 0.01
BINS = 10
# Rows of the running version that a bin should hold at least.
ROWS_PER_BIN = 10
# An empty bin is taken for half a row.
HALF = 0.5
# How far above its mean chance alone may carry the index, in standard deviations.
SIGMAS = 3.0


@dataclass(frozen=True)
class Pair:
    """What the running and the new version said to the same rows, in their order."""

    running: tuple[float, ...] = ()
    new: tuple[float, ...] = ()


def breach(limits: Limits, running: Health, new: Health, pair: Pair) -> str:
    """Why the new version must not go on; "" when it may.

    What the running version did not answer, nothing is compared with.
    """
    return _errors(limits, new) or _latency(limits, running, new) or _drift(limits, running, new,
                                                                            pair)  # fmt: skip


def _errors(limits: Limits, new: Health) -> str:
    share = new.errors / new.requests if new.requests else 0.0
    if share <= limits.errors:
        return ""
    return f"{new.errors} of {new.requests} requests failed, limit {limits.errors:g}"


def _latency(limits: Limits, running: Health, new: Health) -> str:
    most = max(limits.latency * running.seconds, running.seconds + NOISE_SECONDS)
    if not running.seconds or new.seconds <= most:
        return ""
    return (
        f"latency {new.seconds * 1000:.1f} ms, of the running version {running.seconds * 1000:.1f}"
        f" ms, limit {limits.latency:g} times that"
    )


def _drift(limits: Limits, running: Health, new: Health, pair: Pair) -> str:
    index = max(beyond_chance(running.scores, new.scores), paired_index(pair))
    if index <= limits.drift:
        return ""
    return f"scores drift by {index:.2f}, limit {limits.drift:g}"


def stability_index(expected: Sequence[int], found: Sequence[int]) -> float:
    """The population stability index of two histograms with the same bins; 0 when one is empty."""
    if not sum(expected) or not sum(found):
        return 0.0
    before, after = _shares(expected), _shares(found)
    return float(np.sum((after - before) * np.log(after / before)))


def beyond_chance(expected: Sequence[int], found: Sequence[int]) -> float:
    """The index of two samples of different rows, less what chance makes of so few of them.

    Of one population the index is about (1/n + 1/m) times a chi-squared variable.
    """
    if not sum(expected) or not sum(found):
        return 0.0
    bins = sum(1 for one, other in zip(expected, found, strict=True) if one or other)
    free = max(bins - 1, 1)
    chance: float = (free + SIGMAS * (2 * free) ** 0.5) * (1 / sum(expected) + 1 / sum(found))
    return max(stability_index(expected, found) - chance, 0.0)


def paired_index(pair: Pair) -> float:
    """The index of answers to the same rows, in bins that hold as many of the running version's."""
    rows = len(pair.running)
    if not rows or rows != len(pair.new):
        return 0.0
    running, new = np.array(pair.running), np.array(pair.new)
    count = min(BINS, max(rows // ROWS_PER_BIN, 2))
    inner = np.unique(np.quantile(running, np.linspace(0, 1, count + 1)[1:-1]))
    return stability_index(_counts(running, inner, count), _counts(new, inner, count))


def _counts(values: Array, edges: Array, count: int) -> list[int]:
    return [int(n) for n in np.bincount(np.searchsorted(edges, values), minlength=count)]


def _shares(counts: Sequence[int]) -> Array:
    filled: Array = np.maximum(np.array(counts, dtype=float), HALF)
    shares: Array = filled / filled.sum()
    return shares
