"""Data classes of an assessment: its windows, and their features, predictions and metrics."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Literal

from mlops.deploy.target import Health

State = Literal["ok", "watch", "retrain"]
Quantity = Literal["performance", "calibration"]


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
    and `missing_before` are shares of all rows; `missing_rise` is the lower bound of the rise from
    one to the other; `unseen` is the lower bound of the share of rows whose category training
    never saw.
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

    `worse` is the lower bound of how much worse it is; below 0 when it may be better.
    """

    kind: Quantity
    metric: str
    value: float
    low: float
    high: float
    before: float
    worse: float


@dataclass(frozen=True)
class Window:
    """The rows answered after `since` and up to `until`, in UTC; `labels` counts labelled rows,
    `few` says what these have too few of to be judged."""

    since: datetime
    until: datetime
    rows: int = 0
    labels: int = 0
    features: tuple[Column, ...] = ()
    scores: tuple[Column, ...] = ()
    qualities: tuple[Quality, ...] = ()
    few: str = ""

    @property
    def span(self) -> str:
        """Both bounds to the minute, in UTC."""
        return f"{self.since:%Y-%m-%d %H:%M} to {self.until:%Y-%m-%d %H:%M}"


@dataclass(frozen=True)
class Published:
    """Features by key: of how many of the `expected` keys of the next day they were `found`, when
    they were made, in seconds since 1970, and the hours after which the service refuses them."""

    expected: int
    found: int
    made: float | None
    stale_after: float


@dataclass(frozen=True)
class Assessment:
    """The state of an environment at `now`, with its reasons; its files lie in `folder`.

    `windows` are those of requests, `labelled` those of rows whose labels have arrived; both
    newest first. `notes` say what was left out, and why; `lines` counts the log lines by kind.
    `unread` is why the source's outcomes could not be read; `health` is what the target measures,
    where another service than this project's own answers.
    """

    environment: str
    model: str
    digest: str
    now: datetime
    state: State
    reasons: tuple[str, ...]
    notes: tuple[str, ...]
    lines: dict[str, int]
    windows: tuple[Window, ...]
    labelled: tuple[Window, ...]
    folder: Path
    published: Published | None = None
    unread: str = ""
    health: Health | None = None

    @property
    def line(self) -> str:
        """The assessment in one line, for the screen."""
        details = "; ".join((*self.reasons, *self.notes)) or f"{self.windows[0].rows:,} rows judged"
        return f"{self.environment} {self.digest[:12]}: {self.state}: {details}"
