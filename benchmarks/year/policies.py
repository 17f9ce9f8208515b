"""When to retrain: never, every month, or when monitoring says so; and how each of them fared."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import mean
from typing import Literal

from benchmarks.figure import Figure, at_least, at_most

Policy = Literal["never", "monthly", "monitored"]
POLICIES: tuple[Policy, ...] = ("never", "monthly", "monitored")
# The goals: how many retrainings, as a share of monthly's, and how far from its mean AUC.
SHARE, DISTANCE = 0.5, 0.003


@dataclass(frozen=True)
class Played:
    """A month under a policy: its last day, the AUC of what served, and what was done at its end.

    `retrained` says whether a candidate was trained, `merged` whether the gate let it through.
    """

    policy: Policy
    until: dt.date
    auc: float
    retrained: bool = False
    merged: bool = False
    why: str = ""

    @property
    def line(self) -> str:
        done = "" if not self.retrained else " merged" if self.merged else " refused"
        # The first reason; the others stand in monitoring's own files.
        because = f" ({self.why.partition('; ')[0]})" if self.why else ""
        return f"{self.until:%Y-%m} {self.policy:<9} AUC {self.auc:.4f}{done}{because}"


def months(first: dt.date, last: dt.date) -> list[dt.date]:
    """The last days of the months after the one that ends on `first`, up to `last`."""
    ends = []
    day = first + dt.timedelta(days=1)
    while day <= last:
        following = (day + dt.timedelta(days=31)).replace(day=1)
        ends.append(following - dt.timedelta(days=1))
        day = following
    return ends


def figures(played: Sequence[Played], seconds: float, limit: float) -> list[Figure]:
    """What is claimed: few retrainings, an AUC like monthly's, and a run that ends in time."""
    auc = {policy: mean(p.auc for p in of(played, policy)) for policy in POLICIES}
    count = {policy: retrainings(played, policy) for policy in POLICIES}
    return [
        *(Figure(f"mean AUC, retrained {p}", f"{auc[p]:.4f} ({count[p]} times)") for p in POLICIES),
        at_most(
            "retrainings, monitored / monthly", count["monitored"] / count["monthly"], SHARE,
            f"{count['monitored']} / {count['monthly']}",
        ),
        at_least(
            "mean AUC, monitored less monthly", auc["monitored"] - auc["monthly"], -DISTANCE,
            f"{len(of(played, 'never'))} months", digits=4,
        ),
        at_most("the year, min", seconds / 60, limit, "all three policies"),
    ]  # fmt: skip


def of(played: Sequence[Played], policy: Policy) -> list[Played]:
    """A policy's months, in order."""
    return [one for one in played if one.policy == policy]


def retrainings(played: Sequence[Played], policy: Policy) -> int:
    """How often a policy trained, whatever the gate said of it."""
    return sum(one.retrained for one in of(played, policy))
