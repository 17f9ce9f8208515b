"""Charts of the report: SVG by Matplotlib, in the colours of the page, light or dark."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from markupsafe import Markup, escape

from mlops.evaluation.report.content import Content
from mlops.evaluation.report.wording import number

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# The colours that Matplotlib draws in, and the template's variables that replace them.
SOFT, LINE, ACCENT, OTHER = "#656d76", "#e4e2dd", "#1f5fa8", "#b9783a"
CYCLE = {ACCENT: "accent", OTHER: "other", "#2c8a6b": "c2", "#a8487f": "c3", "#7a6fc0": "c4",
         "#7d7a2c": "c5"}  # fmt: skip
VARIABLES = {SOFT: "soft", LINE: "line", **CYCLE}
STYLE = {
    "svg.fonttype": "none", "text.parse_math": False, "font.size": 11, "text.color": SOFT,
    "axes.titlesize": 11, "axes.titlecolor": SOFT, "axes.labelcolor": SOFT, "axes.edgecolor": SOFT,
    "axes.spines.left": False, "axes.spines.right": False, "axes.spines.top": False,
    "axes.grid": True, "axes.grid.axis": "y", "axes.axisbelow": True, "axes.xmargin": 0.02,
    "axes.ymargin": 0.02, "grid.color": LINE, "xtick.color": SOFT, "ytick.color": SOFT,
    "xtick.major.size": 0, "ytick.major.size": 0, "lines.markersize": 4, "legend.frameon": False,
}  # fmt: skip
DASHES = {"color": SOFT, "linestyle": "--", "linewidth": 0.8}


def charts(content: Content) -> Iterator[dict[str, str]]:
    """Draw the curves of the content, in the order of the page: title, note and SVG of each."""
    for name, (title, note, x, y, draw) in CHARTS.items():
        if name in content.tables:
            marks = partial(draw, table=content.tables[name], content=content)
            yield {"title": title, "note": note, "svg": _svg(title, x, y, marks)}


def search(trials: pd.DataFrame | None) -> dict[str, Any] | None:
    """The chart of all trials, and a line for each family, best first."""
    if trials is None or not np.isfinite(trials["score"]).any():
        return None
    trials = trials.assign(family=trials["family"].astype(str))
    finite = trials[np.isfinite(trials["score"])]
    rising = finite["best_so_far"].iloc[-1] >= finite["best_so_far"].iloc[0]
    totals = trials.groupby("family").agg(trials=("trial", "size"))
    totals["best"] = finite.groupby("family")["score"].agg("max" if rising else "min")
    totals = totals.sort_values(["best", "trials"], ascending=[not rising, False])
    families = [
        (family, number(row["best"]), int(row["trials"])) for family, row in totals.iterrows()
    ]
    svg = _svg("Trials", "trial", "score", partial(_trials, finite=finite))
    return {"svg": svg, "families": families, "trials": len(trials)}


def _svg(title: str, x: str, y: str, draw: Callable[[Axes], None]) -> Markup:
    """Draw on axes with these labels; equal marks give equal text, without time or version."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    cycle = mpl.cycler(color=list(CYCLE))
    with mpl.rc_context({**STYLE, "axes.prop_cycle": cycle, "svg.hashsalt": title}):
        figure = Figure(figsize=(4.4, 3.3), layout="constrained")
        axes = figure.subplots()
        axes.set_title(y, loc="left")
        axes.set_xlabel(x, loc="right")
        draw(axes)
        axes.locator_params(nbins=6)
        if axes.get_legend_handles_labels()[0]:
            figure.legend(loc="outside lower left", ncols=2)
        for artist in axes.findobj():
            artist.set_clip_on(False)
        file = io.StringIO()
        nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        figure.savefig(file, format="svg", transparent=True, metadata=nothing)
    _, size, body = re.split(r'<svg[^>]*(viewBox="[^"]*")[^>]*>', file.getvalue())
    # Only the identifiers of markers are referred to.
    body = re.sub(r' id="(?!m[0-9a-f]{10}")[^"]*"', "", body)
    body = re.sub("|".join(VARIABLES), lambda colour: f"var(--{VARIABLES[colour[0]]})", body)
    label = escape(f"{title}: {y} by {x}")
    return Markup(f'<svg {size} role="img" aria-label="{label}">{body}')


def _threshold(axes: Axes, table: pd.DataFrame, x: str, y: str, content: Content) -> None:
    """A curve, and a dot on it at the threshold in use."""
    axes.plot(table[x], table[y], linewidth=1.8)
    if content.card.threshold is not None:
        at = table.loc[(table["threshold"] - content.card.threshold).abs().idxmin()]
        axes.plot(at[x], at[y], "o", color=ACCENT)


def _roc(axes: Axes, table: pd.DataFrame, content: Content) -> None:
    axes.plot([0, 1], [0, 1], **DASHES)
    _threshold(axes, table, "fpr", "tpr", content)


def _precision_recall(axes: Axes, table: pd.DataFrame, content: Content) -> None:
    axes.set_ylim(0, 1.02)
    axes.plot([0, 1], [content.label_rate] * 2, **DASHES)
    _threshold(axes, table, "recall", "precision", content)


def _groups(axes: Axes, table: pd.DataFrame, content: Content, *, y: str, style: str) -> None:
    """Means of groups of rows with their bounds, and the line on which prediction is outcome."""
    ends = table[["predicted", y]].min().min(), table[["predicted", y]].max().max()
    axes.plot(ends, ends, **DASHES)
    axes.vlines(table["predicted"], table["low"], table["high"], color=ACCENT, alpha=0.5)
    axes.plot(table["predicted"], table[y], style, color=ACCENT, linewidth=1.2)


def _scores(axes: Axes, table: pd.DataFrame, content: Content) -> None:
    for label, colour in (("negative", OTHER), ("positive", ACCENT)):
        _histogram(axes, table, label, label=label, color=colour)
    if content.card.threshold is not None:
        axes.axvline(content.card.threshold, **DASHES)


def _errors(axes: Axes, table: pd.DataFrame, content: Content) -> None:
    _histogram(axes, table, "rows", color=ACCENT)
    axes.axvline(0, **DASHES)


def _histogram(axes: Axes, table: pd.DataFrame, rows: str, **style: Any) -> None:
    shares = table[rows] / max(table[rows].sum(), 1)
    axes.stairs(shares, [*table["low"], table["high"].iloc[-1]], fill=True, alpha=0.45, **style)


def _trials(axes: Axes, finite: pd.DataFrame) -> None:
    axes.step(finite["trial"], finite["best_so_far"], where="post", color=SOFT, label="best so far")
    for family, own in finite.groupby("family"):
        axes.plot(own["trial"], own["score"], "o", label=family)


CHARTS: dict[str, tuple[str, str, str, str, Callable[..., None]]] = {
    "roc_curve": (
        "ROC", "The dot is the threshold in use; the dashes are chance.",
        "false positive rate", "true positive rate", _roc,
    ),
    "precision_recall_curve": (
        "Precision and recall", "The dot is the threshold in use; the dashes are the label rate.",
        "recall", "precision", _precision_recall,
    ),
    "calibration_curve": (
        "Calibration",
        "Ten groups of equal size by probability (of many classes, of the most likely one), with"
        " 95 % intervals; on the dashes, outcomes are as frequent as predicted.",
        "predicted probability", "observed rate", partial(_groups, y="observed", style="o-"),
    ),
    "score_histogram": (
        "Scores", "Share of each label by predicted probability; the dashes are the threshold.",
        "predicted probability", "share of the label's rows", _scores,
    ),
    "predicted_vs_actual": (
        "Predicted and actual",
        "Twenty groups of equal size by prediction: the actual mean and middle 80 %.",
        "predicted", "actual", partial(_groups, y="actual", style="o"),
    ),
    "residual_histogram": (
        "Errors",
        "Predicted less actual; the outermost half percent on either side is in the last bars.",
        "predicted less actual", "share of rows", _errors,
    ),
}  # fmt: skip
