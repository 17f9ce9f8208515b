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
from mlops.deploy.target import Answer, Endpoint, Health, Target

PERCENTILE = 0.95
# The first requests are not counted: a process answers these more slowly.
WARM_UP = 2
COUNTS = ("requests", "errors", "compared", "differing")


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

    def ask(self, count: int, both: bool = True) -> Window:
        """Send reference rows to the new version, or to both, one at a time and in turn."""
        rows = list(islice(cycle(smoke_test.reference(self.bundle)[0]), WARM_UP + count))
        digests = (self.running, self.new) if both else (self.new,)
        answers = [
            [self.target.ask(self.endpoint, name, [row]) for name in digests] for row in rows
        ]
        *running, new = (_health(each) for each in zip(*answers[WARM_UP:], strict=True))
        scored = [row for row in answers if both and all(answer.scores for answer in row)]
        pair = Pair(*(tuple(row[place].scores[0] for row in scored) for place in (0, 1)))
        return Window(running[0] if running else Health(0, 0, 0.0), new, pair)


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
        scores=scores if scores and min(scores) >= 0 else now.scores,
        **{name: max(getattr(now, name) - getattr(before, name), 0) for name in COUNTS},
    )


def _sum(one: Health, other: Health, seconds: float) -> Health:
    requests, errors = one.requests + other.requests, one.errors + other.errors
    return replace(one, requests=requests, errors=errors, seconds=seconds)
