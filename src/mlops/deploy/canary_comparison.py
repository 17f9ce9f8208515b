"""Two versions of one endpoint, and what both answered in one step of a rollout."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from mlops.contract import bundle
from mlops.deploy.canary_analysis import Pair
from mlops.deploy.manifest import Rollout
from mlops.deploy.target import Answer, Endpoint, Health, Row, Target

SHARE = 0.95
# Asked first, and not counted: what was never called takes longer.
WARM_UP = 2


@dataclass(frozen=True)
class Window:
    """How both went in one step; `pair` is what they said to the rows that both were asked."""

    running: Health
    new: Health
    pair: Pair = field(default_factory=Pair)

    @property
    def said(self) -> str:
        """The new version's part in a few words."""
        compared = f", {self.new.differing} of {self.new.compared} compared answers differ"
        return (
            f"{self.new.requests} requests, {self.new.errors} failed, "
            f"{self.new.seconds * 1000:.1f} ms" + (compared if self.new.compared else "")
        )

    def __add__(self, other: Window) -> Window:
        """Two windows as one; the times are those of the one that saw more of the new version."""
        longer = self if self.new.requests >= other.new.requests else other
        return Window(
            _added(self.running, other.running, longer.running.seconds),
            _added(self.new, other.new, longer.new.seconds),
            Pair(self.pair.running + other.pair.running, self.pair.new + other.pair.new),
        )


@dataclass(frozen=True)
class Contest:
    """One endpoint with the digest that runs and the new one."""

    target: Target
    endpoint: Endpoint
    running: str
    new: str
    bundle: Path
    rollout: Rollout

    def share(self, percent: int, mirror: int = 0) -> None:
        """Give the new version so much of the traffic, or of the mirrored requests."""
        shares = {self.running: 100 - percent, self.new: percent}
        self.target.traffic(self.endpoint, shares, {self.new: mirror} if mirror else {})

    def until_now(self) -> Window:
        """How both went since they were deployed."""
        return Window(
            self.target.health(self.endpoint, self.running),
            self.target.health(self.endpoint, self.new),
        )

    def asked(self, count: int) -> Window:
        """How both answer reference rows, one at a time and in turn."""
        rows = list(itertools.islice(reference(self.bundle), WARM_UP + count))
        answers = [(self._ask(self.running, row), self._ask(self.new, row)) for row in rows]
        running, new = zip(*answers[WARM_UP:], strict=True)
        both = [(one.scores[0], two.scores[0]) for one, two in answers if one.scores and two.scores]
        pair = Pair(tuple(one for one, _ in both), tuple(two for _, two in both))
        return Window(_health(running), _health(new), pair)

    def asked_alone(self, count: int) -> Window:
        """How the new version answers reference rows, whatever the running one says."""
        rows = itertools.islice(reference(self.bundle), count)
        return Window(Health(0, 0, 0.0), _health([self._ask(self.new, row) for row in rows]))

    def _ask(self, digest: str, row: Row) -> Answer:
        return self.target.ask(self.endpoint, digest, [row])


def since(before: Window, now: Window) -> Window:
    """What was answered between two looks."""
    return Window(_less(now.running, before.running), _less(now.new, before.new))


def reference(folder: Path) -> Iterator[Row]:
    """A bundle's reference rows, None where a value is missing, over and over."""
    import pandas as pd

    names = [column.name for column in bundle.read_card(folder).inputs]
    table = pd.read_parquet(folder / bundle.REFERENCE, columns=names).astype(object)
    found = table.where(table.notna(), None)
    return itertools.cycle(dict(zip(names, row, strict=True)) for row in found.to_numpy().tolist())


def _health(answers: Sequence[Answer]) -> Health:
    times = sorted(answer.seconds for answer in answers if answer.scores)
    slowest = times[math.ceil(SHARE * len(times)) - 1] if times else 0.0
    return Health(len(answers), sum(not answer.scores for answer in answers), slowest)


def _less(now: Health, before: Health) -> Health:
    # What was started anew meanwhile has begun to count anew.
    if now.requests < before.requests:
        return now
    scores = [one - two for one, two in zip(now.scores, before.scores, strict=False)]
    return replace(
        now,
        requests=now.requests - before.requests,
        errors=max(now.errors - before.errors, 0),
        scores=tuple(scores) if scores and min(scores) >= 0 else now.scores,
        compared=max(now.compared - before.compared, 0),
        differing=max(now.differing - before.differing, 0),
    )


def _added(one: Health, other: Health, seconds: float) -> Health:
    return replace(
        one, requests=one.requests + other.requests, errors=one.errors + other.errors,
        seconds=seconds,
    )  # fmt: skip
