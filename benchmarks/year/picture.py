"""The year in one picture: the AUC of each policy by month, and when it retrained."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# The report's colours, on white.
MUTED, GRID = "#6b7280", "#e5e7eb"
STYLES = {
    "never": ("#9aa3af", "never retrained"),
    "monthly": ("#e08a3c", "retrained every month"),
    "monitored": ("#2563c9", "retrained when monitoring says so"),
}


def draw(months: pd.DataFrame, path: Path) -> None:
    """Draw the months (columns policy, until, auc, retrained, merged) to a PNG file."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 4.8), dpi=144, layout="constrained")
    curves, trainings = figure.subplots(2, 1, sharex=True, height_ratios=(5, 1.2))
    for policy, (color, label) in STYLES.items():
        auc = months.loc[months["policy"] == policy, "auc"].to_numpy()
        named = f"{label}: mean {auc.mean():.3f}"
        curves.plot(auc, "o-", markersize=4.5, linewidth=2, color=color, label=named)
    for row, policy in enumerate(("monitored", "monthly")):
        _trainings(trainings, months[months["policy"] == policy], STYLES[policy][0], row)
    _decorate(curves, trainings, [f"{month:%b}" for month in months["until"].unique()])
    figure.savefig(path, facecolor="white")


def _trainings(axes: Axes, months: pd.DataFrame, color: str, row: int) -> None:
    """A dot at the end of each month with a training; hollow where the gate refused."""
    for at, month in enumerate(months.itertuples()):
        if month.retrained:
            fill: Any = "full" if month.merged else "none"
            axes.plot(at + 0.5, row, "o", markersize=8, color=color, fillstyle=fill)
    count = f"{int(months['retrained'].sum())} trainings"
    axes.text(len(months) - 0.55, row, count, va="center", color=color, fontsize=9)


def _decorate(curves: Axes, trainings: Axes, months: list[str]) -> None:
    title = "A year of flights: what served, month by month"
    curves.set_title(title, loc="left", fontsize=12, weight="bold")
    curves.set_ylabel("ROC AUC of the month", color=MUTED)
    curves.legend(frameon=False, loc="lower left", fontsize=9)
    curves.grid(axis="y", color=GRID)
    note = "a dot: trained at the end of the month; hollow: the gate refused it"
    trainings.set_xlabel(note, color=MUTED, fontsize=8)
    trainings.set_yticks([0, 1], ["when monitoring\nsays so", "every month"], fontsize=8)
    trainings.set_xticks(range(len(months)), months)
    trainings.set(ylim=(-0.7, 1.7), xlim=(-0.4, len(months) - 0.05))
    for axes in (curves, trainings):
        axes.spines[["top", "right", "left"]].set_visible(False)
        axes.spines["bottom"].set_color(GRID)
        axes.tick_params(length=0, colors=MUTED)
