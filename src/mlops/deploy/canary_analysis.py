"""The decision whether a new version may go on, from what it and the running one have answered."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mlops.deploy.manifest import Limits
from mlops.deploy.target import Health
from mlops.evaluation.stability import index_beyond_chance, stability_index

# A smaller difference in latency is noise of the machine.
NOISE_SECONDS = 0.01
BINS = 10
# Rows of the running version that a bin should hold at least.
ROWS_PER_BIN = 10


@dataclass(frozen=True)
class Pair:
    """The scores of the running and of the new version for the same rows, in the same order."""

    running: tuple[float, ...] = ()
    new: tuple[float, ...] = ()


def breach(limits: Limits, running: Health, new: Health, pair: Pair) -> str:
    """The reason why the new version must not go on; "" when it may.

    A running version that answered nothing is no measure of latency or drift.
    """
    share = new.errors / new.requests if new.requests else 0.0
    if share > limits.errors:
        return f"{new.errors} of {new.requests} requests failed, limit {limits.errors:g}"
    most = max(limits.latency * running.seconds, running.seconds + NOISE_SECONDS)
    if running.seconds and new.seconds > most:
        return (
            f"latency {new.seconds * 1000:.1f} ms, of the running version "
            f"{running.seconds * 1000:.1f} ms, limit {limits.latency:g} times that"
        )
    drift = max(index_beyond_chance(running.scores, new.scores), paired_index(pair))
    return f"scores drift by {drift:.2f}, limit {limits.drift:g}" if drift > limits.drift else ""


def paired_index(pair: Pair) -> float:
    """The stability index of two versions' scores for the same rows.

    The bins are quantiles of the running version's scores. Chance plays no part: the rows are
    equal.
    """
    rows = len(pair.running)
    if not rows or rows != len(pair.new):
        return 0.0
    count = min(BINS, max(rows // ROWS_PER_BIN, 2))
    edges = np.unique(np.quantile(pair.running, np.linspace(0, 1, count + 1)[1:-1]))
    running, new = (
        np.bincount(np.searchsorted(edges, scores), minlength=count)
        for scores in (pair.running, pair.new)
    )
    return stability_index(running, new)
