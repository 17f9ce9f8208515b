"""What is backtested, and what was found."""

from __future__ import annotations

import datetime as dt
from typing import NamedTuple

from mlops.contract.bundle import Card
from mlops.data.as_of import Span
from mlops.evaluation.metrics import Interval
from mlops.registry.pin import Pin

# Days with rows of a period of time: fewer than ten would give no interval.
PERIOD_DAYS = 14


class Scope(NamedTuple):
    """What is backtested: an environment, days, every how many of them, with which pins."""

    environment: str
    first: dt.date
    last: dt.date
    every: int = 1
    current: bool = False

    @property
    def spans(self) -> list[Span]:
        """The days that are predicted at once, as of the first of them."""
        firsts = [
            self.first + dt.timedelta(days=n)
            for n in range(0, (self.last - self.first).days + 1, self.every)
        ]
        whole = dt.timedelta(days=self.every - 1)
        return [Span(first, min(first + whole, self.last), first) for first in firsts]


class Group(NamedTuple):
    """Metrics of rows that one model predicted, on days that it was trained on or on others."""

    first: dt.date
    last: dt.date
    digest: str
    trained_on: bool
    rows: int
    metrics: dict[str, Interval]


class Content(NamedTuple):
    """The report's content: metrics over time, by model, and the main one of all rows that no model
    was trained on; `counts` are rows by what became of them."""

    scope: Scope
    card: Card
    pins: dict[str, Pin]
    periods: list[Group]
    models: list[Group]
    main: Interval | None
    counts: dict[str, int]
