"""Two versions of one endpoint, and what both answered in one step of a rollout."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import cycle, islice
from pathlib import Path

from mlops.deploy import smoke_test
from mlops.deploy.canary_analysis import Pair
from mlops.deploy.manifest import Rollout
from mlops.deploy.target import Answer, Endpoint, Health, Row, Target

PERCENTILE = 0.95
# The first requests are not counted: a process answers these more slowly.
WARM_UP = 2


@dataclass(frozen=True)
class Window:
    """Both versions' answers in one step; `pair` is of the rows that both were asked."""

    running: Health
    new: Health
    pair: Pair = field(default_factory=Pair)

    @property
    def summary(self) -> str:
        """The new version's answers in a few words."""
        compared = f", {self.new.differing} of {self.new.compared} compared answers differ"
        return (
            f"{self.new.requests} requests, {self.new.errors} failed, "
            f"{self.new.seconds * 1000:.1f} ms" + (compared if self.new.compared else "")
        )

    def __add__(self, other: Window) -> Window:
        """Both as one; latencies are those of the window with more of the new version's answers."""
        longer = self if self.new.requests >= other.new.requests else other
        return Window(
            _sum(self.running, other.running, longer.running.seconds),
            _sum(self.new, other.new, longer.new.seconds),
            Pair(self.pair.running + other.pair.running, self.pair.new + other.pair.new),
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

    def ask_both(self, count: int) -> Window:
        """Send reference rows to both, one at a time and in turn."""
        rows = self._rows(WARM_UP + count)
        answers = [(self._ask(self.running, row), self._ask(self.new, row)) for row in rows]
        running, new = zip(*answers[WARM_UP:], strict=True)
        both = [(one.scores[0], two.scores[0]) for one, two in answers if one.scores and two.scores]
        pair = Pair(tuple(one for one, _ in both), tuple(two for _, two in both))
        return Window(_health(running), _health(new), pair)

    def ask_new(self, count: int) -> Window:
        """Send reference rows to the new version alone."""
        answers = [self._ask(self.new, row) for row in self._rows(count)]
        return Window(Health(0, 0, 0.0), _health(answers))

    def _rows(self, count: int) -> list[Row]:
        """The bundle's reference rows, over and over."""
        return list(islice(cycle(smoke_test.reference(self.bundle)[0]), count))

    def _ask(self, digest: str, row: Row) -> Answer:
        return self.target.ask(self.endpoint, digest, [row])


def since(before: Window, now: Window) -> Window:
    """The answers between two totals."""
    return Window(_difference(now.running, before.running), _difference(now.new, before.new))


def _health(answers: Sequence[Answer]) -> Health:
    latencies = sorted(answer.seconds for answer in answers if answer.scores)
    percentile = latencies[math.ceil(PERCENTILE * len(latencies)) - 1] if latencies else 0.0
    return Health(len(answers), sum(not answer.scores for answer in answers), percentile)


def _difference(now: Health, before: Health) -> Health:
    # A process that was started again meanwhile counts from 0.
    if now.requests < before.requests:
        return now
    scores = tuple(one - two for one, two in zip(now.scores, before.scores, strict=False))
    return replace(
        now,
        requests=now.requests - before.requests,
        errors=max(now.errors - before.errors, 0),
        scores=scores if scores and min(scores) >= 0 else now.scores,
        compared=max(now.compared - before.compared, 0),
        differing=max(now.differing - before.differing, 0),
    )


def _sum(one: Health, other: Health, seconds: float) -> Health:
    requests, errors = one.requests + other.requests, one.errors + other.errors
    return replace(one, requests=requests, errors=errors, seconds=seconds)
