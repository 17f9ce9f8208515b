"""The year in one picture: the AUC of what served, month by month, and who retrained when."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# The report's colours, on white.
INK, MUTED, GRID = "#1f2328", "#6b7280", "#e5e7eb"
LOOK: dict[str, dict[str, Any]] = {
    "never": {"color": "#9aa3af", "label": "never retrained"},
    "monthly": {"color": "#e08a3c", "label": "retrained every month"},
    "monitored": {"color": "#2563c9", "label": "retrained when monitoring says so"},
}


def draw(played: pd.DataFrame, path: Path) -> None:
    """Draw the months (columns policy, until, auc, retrained, merged) to a PNG file."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    with plt.rc_context({"font.family": "sans-serif", "font.size": 10, "text.color": INK}):
        figure, (curves, done) = plt.subplots(
            2,
            1,
            figsize=(9, 4.8),
            dpi=144,
            sharex=True,
            height_ratios=(5, 1.2),
            layout="constrained",
        )
        months = list(dict.fromkeys(played["until"]))
        for policy, look in LOOK.items():
            _curve(curves, played[played["policy"] == policy], look)
        for row, policy in enumerate(("monitored", "monthly")):
            _retrainings(done, played[played["policy"] == policy], LOOK[policy], row)
        _dress(curves, done, [f"{month:%b}" for month in months])
        figure.savefig(path, facecolor="white")
        plt.close(figure)


def _curve(axes: Axes, own: pd.DataFrame, look: dict[str, Any]) -> None:
    mean = own["auc"].mean()
    axes.plot(
        range(len(own)), own["auc"], marker="o", markersize=4.5, linewidth=2,
        color=look["color"], label=f"{look['label']}: mean {mean:.3f}",
    )  # fmt: skip


def _retrainings(axes: Axes, own: pd.DataFrame, look: dict[str, Any], row: int) -> None:
    """A dot at the end of each month that ended with a training; hollow where the gate refused."""
    for at, month in enumerate(own.itertuples()):
        if month.retrained:
            axes.plot(
                at + 0.5, row, "o", markersize=8, color=look["color"],
                fillstyle="full" if month.merged else "none",
            )  # fmt: skip
    axes.text(
        len(own) - 0.55, row, f"{int(own['retrained'].sum())} trainings",
        va="center", ha="left", color=look["color"], fontsize=9,
    )  # fmt: skip


def _dress(curves: Axes, done: Axes, months: list[str]) -> None:
    curves.set_title(
        "A year of flights: what served, month by month", loc="left", fontsize=12, weight="bold"
    )
    curves.set_ylabel("ROC AUC of the month", color=MUTED)
    curves.legend(frameon=False, loc="lower left", fontsize=9)
    curves.grid(axis="y", color=GRID)
    done.set_ylim(-0.7, 1.7)
    done.set_yticks([0, 1], ["when monitoring\nsays so", "every month"], fontsize=8)
    done.set_xticks(range(len(months)), months)
    done.set_xlabel(
        "a dot: trained at the end of the month; hollow: the gate refused it",
        color=MUTED, fontsize=8,
    )  # fmt: skip
    done.set_xlim(-0.4, len(months) - 0.05)
    for axes in (curves, done):
        axes.spines[["top", "right", "left"]].set_visible(False)
        axes.spines["bottom"].set_color(GRID)
        axes.tick_params(length=0, colors=MUTED)
