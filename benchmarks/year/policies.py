"""Retraining policies: never, every month, or when monitoring says so; and their figures."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import mean
from typing import Literal

import pandas as pd

from benchmarks.figure import Figure, at_least, at_most

Policy = Literal["never", "monthly", "monitored"]
POLICIES: tuple[Policy, ...] = ("never", "monthly", "monitored")
# Goals: retrainings as a share of monthly's, and the distance below its mean AUC.
SHARE, DISTANCE = 0.5, 0.003


@dataclass(frozen=True)
class Month:
    """A month under a policy: its last day, the AUC of the served model, the action at its end.

    `retrained` says whether a candidate was trained, `merged` whether the gate accepted it.
    """

    policy: Policy
    until: dt.date
    auc: float
    retrained: bool = False
    merged: bool = False
    why: str = ""

    @property
    def line(self) -> str:
        outcome = "" if not self.retrained else " merged" if self.merged else " refused"
        # The first reason; monitoring's own files have the others.
        because = f" ({self.why.partition('; ')[0]})" if self.why else ""
        return f"{self.until:%Y-%m} {self.policy:<9} AUC {self.auc:.4f}{outcome}{because}"


def month_ends(first: dt.date, last: dt.date) -> list[dt.date]:
    """The last days of the months after the one that ends on `first`, up to `last`."""
    return [end.date() for end in pd.date_range(first + dt.timedelta(days=1), last, freq="ME")]


def figures(months: Sequence[Month], seconds: float, limit_minutes: float) -> list[Figure]:
    """The figures and goals: few retrainings, an AUC like monthly's, and the time of the run."""
    by_policy = {policy: [m for m in months if m.policy == policy] for policy in POLICIES}
    auc = {policy: mean(m.auc for m in own) for policy, own in by_policy.items()}
    count = {policy: sum(m.retrained for m in own) for policy, own in by_policy.items()}
    return [
        *(Figure(f"mean AUC, retrained {p}", f"{auc[p]:.4f} ({count[p]} times)") for p in POLICIES),
        at_most(
            "retrainings, monitored / monthly", count["monitored"] / count["monthly"], SHARE,
            f"{count['monitored']} / {count['monthly']}",
        ),
        at_least(
            "mean AUC, monitored less monthly", auc["monitored"] - auc["monthly"], -DISTANCE,
            f"{len(by_policy['never'])} months", digits=4,
        ),
        at_most("the year, min", seconds / 60, limit_minutes, "all three policies"),
    ]  # fmt: skip
