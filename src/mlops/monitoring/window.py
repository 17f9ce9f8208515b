"""What is known of a window of time: its features, its predictions, its labels."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal


@dataclass(frozen=True)
class Bin:
    """One bin of a column: its share of the values in the reference, and in the window."""

    label: str
    before: float
    now: float


@dataclass(frozen=True)
class Column:
    """One feature or output of a window against the reference.

    `drift` is the population stability index beyond chance, None with too few values; `missing`
    and `missing_before` are shares of all rows; `missing_rise` is by how much the one surely
    exceeds the other; `unseen` is the share of rows whose category training surely never saw.
    """

    name: str
    drift: float | None = None
    missing: float = 0.0
    missing_before: float = 0.0
    missing_rise: float = 0.0
    unseen: float = 0.0
    bins: tuple[Bin, ...] = ()


@dataclass(frozen=True)
class Quality:
    """A metric of a window's labelled rows, with its 95 % interval, beside the evidence's.

    `worse` is by how much it is surely worse than the evidence's; below 0 when it may be better.
    """

    kind: Literal["performance", "calibration"]
    metric: str
    value: float
    low: float
    high: float
    before: float
    worse: float


@dataclass(frozen=True)
class Window:
    """The rows answered after `since` and up to `until`, in UTC; `labels` of them came true."""

    since: datetime
    until: datetime
    rows: int = 0
    labels: int = 0
    features: tuple[Column, ...] = ()
    scores: tuple[Column, ...] = ()
    qualities: tuple[Quality, ...] = ()

    @property
    def span(self) -> str:
        """From when to when, to the minute, in UTC."""
        return f"{self.since:%Y-%m-%d %H:%M} to {self.until:%Y-%m-%d %H:%M}"


def cut(until: datetime, hours: int, count: int) -> list[tuple[datetime, datetime]]:
    """The bounds of `count` windows, one before the other, the newest first."""
    step = timedelta(hours=hours)
    return [(until - (back + 1) * step, until - back * step) for back in range(count)]
