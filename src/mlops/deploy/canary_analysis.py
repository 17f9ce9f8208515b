"""What two versions of one endpoint have answered, and whether the new one may go on."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path

import numpy as np

from mlops.deploy import smoke_test
from mlops.deploy.manifest import Limits, Rollout
from mlops.deploy.target import Answer, Endpoint, Health, Target
from mlops.evaluation.stability import index_beyond_chance, stability_index

# A smaller difference in latency is noise of the machine.
NOISE_SECONDS = 0.01
BINS = 10
# Rows of the running version that a bin should hold at least.
ROWS_PER_BIN = 10
PERCENTILE = 0.95
# The first requests are not counted: a process answers these more slowly.
WARM_UP = 2
# The scores of the running and of the new version for the same rows.
Pairs = tuple[tuple[float, float], ...]


def breach(limits: Limits, running: Health, new: Health, pairs: Pairs) -> str:
    """The reason why the new version must not go on; "" when it may.

    A running version that answered nothing is no measure of latency or drift.
    """
    share = new.errors / new.requests if new.requests else 0.0
    if share > limits.errors:
        return f"{new.errors} of {new.requests} requests failed, limit {limits.errors:g}"
    if (excess := _refused_beyond_chance(running, new)) > limits.errors:
        return (
            f"{new.refused} of {new.requests} requests refused, of the running version "
            f"{running.refused} of {running.requests}: {excess:.2g} more, limit {limits.errors:g}"
        )
    most = max(limits.latency * running.seconds, running.seconds + NOISE_SECONDS)
    if running.seconds and new.seconds > most:
        return (
            f"latency {new.seconds * 1000:.1f} ms, of the running version "
            f"{running.seconds * 1000:.1f} ms, limit {limits.latency:g} times that"
        )
    drift = max(index_beyond_chance(running.scores, new.scores), paired_index(pairs))
    return f"scores drift by {drift:.2f}, limit {limits.drift:g}" if drift > limits.drift else ""


def _refused_beyond_chance(running: Health, new: Health) -> float:
    """The rise in the share of refused requests, less two of its standard errors."""
    if not (running.requests and new.requests):
        return 0.0
    share = (running.refused + new.refused) / (running.requests + new.requests)
    error = math.sqrt(share * (1 - share) * (1 / running.requests + 1 / new.requests))
    return new.refused / new.requests - running.refused / running.requests - 2 * error


def paired_index(pairs: Pairs) -> float:
    """The stability index of two versions' scores for the same rows.

    The bins are quantiles of the running version's scores. Chance plays no part: the rows are
    equal.
    """
    if not pairs:
        return 0.0
    running, new = np.transpose(pairs)
    count = min(BINS, max(len(pairs) // ROWS_PER_BIN, 2))
    edges = np.unique(np.quantile(running, np.linspace(0, 1, count + 1)[1:-1]))
    places = (np.searchsorted(edges, scores) for scores in (running, new))
    return stability_index(*(np.bincount(place, minlength=count) for place in places))


@dataclass(frozen=True)
class Window:
    """Both versions' answers in one step; `pairs` are of the rows that both were asked."""

    running: Health
    new: Health
    pairs: Pairs = ()

    @property
    def summary(self) -> str:
        """The new version's answers in a few words."""
        new = self.new
        return f"{new.requests} requests, {new.errors} failed, {new.seconds * 1000:.1f} ms"

    def __sub__(self, before: Window) -> Window:
        """The answers since earlier totals."""
        return Window(_difference(self.running, before.running), _difference(self.new, before.new))

    def __add__(self, other: Window) -> Window:
        """Both as one; latencies are those of the window with more of the new version's answers."""
        longer = self if self.new.requests >= other.new.requests else other
        return Window(
            _sum(self.running, other.running, longer.running.seconds),
            _sum(self.new, other.new, longer.new.seconds),
            self.pairs + other.pairs,
        )


@dataclass(frozen=True)
class Comparison:
    """One endpoint with the digest that runs and the new one."""

    target: Target
    endpoint: Endpoint
    running: str
    new: str
    bundle: Path
    rollout: Rollout

    def share(self, percent: int, mirror: int = 0) -> None:
        """Give the new version these percentages of the traffic and of mirrored requests."""
        shares = {self.running: 100 - percent, self.new: percent}
        self.target.traffic(self.endpoint, shares, {self.new: mirror} if mirror else {})

    def totals(self) -> Window:
        """Both versions' answers since they were deployed."""
        return Window(
            self.target.health(self.endpoint, self.running),
            self.target.health(self.endpoint, self.new),
        )

    def ask(self, count: int, both: bool = True) -> Window:
        """Send reference rows to the new version, or to both, one at a time and in turn."""
        rows = list(islice(cycle(smoke_test.reference(self.bundle)[0]), WARM_UP + count))
        digests = (self.running, self.new) if both else (self.new,)
        answers = [
            [self.target.ask(self.endpoint, name, [row]) for name in digests] for row in rows
        ]
        *running, new = (_health(each) for each in zip(*answers[WARM_UP:], strict=True))
        scored = [row for row in answers if both and all(answer.scores for answer in row)]
        pairs = tuple((one.scores[0], other.scores[0]) for one, other in scored)
        return Window(running[0] if running else Health(0, 0, 0.0), new, pairs)


def _health(answers: Sequence[Answer]) -> Health:
    latencies = sorted(answer.seconds for answer in answers if answer.scores)
    percentile = latencies[math.ceil(PERCENTILE * len(latencies)) - 1] if latencies else 0.0
    return Health(len(answers), sum(not answer.scores for answer in answers), percentile)


def _difference(now: Health, before: Health) -> Health:
    # A process that was started again meanwhile counts from 0.
    if now.requests < before.requests:
        return now
    requests, errors = now.requests - before.requests, max(now.errors - before.errors, 0)
    refused = max(now.refused - before.refused, 0)
    scores = tuple(one - two for one, two in zip(now.scores, before.scores, strict=False))
    if not scores or min(scores) < 0:
        scores = now.scores
    return Health(requests, errors, now.seconds, scores, refused)


def _sum(one: Health, other: Health, seconds: float) -> Health:
    requests, errors = one.requests + other.requests, one.errors + other.errors
    return Health(requests, errors, seconds, one.scores, one.refused + other.refused)
