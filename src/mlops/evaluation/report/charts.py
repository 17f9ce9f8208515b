"""Charts of the report: SVG by Matplotlib, in the colours of the page, light or dark."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import pandas as pd
from markupsafe import Markup, escape

from mlops.evaluation.report.content import Content
from mlops.evaluation.report.wording import number

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# The colours that Matplotlib draws in, and the template's variables that replace them.
SOFT, LINE, ACCENT, OTHER = "#656d76", "#e4e2dd", "#1f5fa8", "#b9783a"
CYCLE = [ACCENT, OTHER, "#2c8a6b", "#a8487f", "#7a6fc0", "#7d7a2c"]
VARIABLES = ["accent", "other", "c2", "c3", "c4", "c5", "soft", "line"]
COLOURS = dict(zip([*CYCLE, SOFT, LINE], VARIABLES, strict=True))
STYLE: dict[str, Any] = {
    "svg.fonttype": "none",
    "text.parse_math": False,
    "font.sans-serif": "DejaVu Sans",
    "font.size": 11,
    "axes.titlesize": 11,
    "axes.titlelocation": "left",
    "xaxis.labellocation": "right",
    "lines.markersize": 4,
    **dict.fromkeys(("text.color", "axes.labelcolor", "axes.edgecolor"), SOFT),
    **dict.fromkeys(("axes.xmargin", "axes.ymargin"), 0.02),
}
DASHES: dict[str, Any] = {"color": SOFT, "linestyle": "--", "linewidth": 0.8}


def svg(name: str, draw: Callable[[Axes], None], size: tuple[float, float] = (4.4, 3.3)) -> Markup:
    """Draw on axes of a size in inches; equal marks give equal text, without time or version."""
    from matplotlib import rc_context, rcsetup
    from matplotlib.figure import Figure

    style: Any = {**STYLE, "axes.prop_cycle": rcsetup.cycler(color=CYCLE), "svg.hashsalt": name}
    with rc_context(style):
        figure = Figure(figsize=size, layout="constrained")
        axes = figure.subplots()
        axes.spines[["left", "right", "top"]].set_visible(False)
        axes.tick_params(length=0, colors=SOFT)
        axes.grid(axis="y", color=LINE)
        axes.set_axisbelow(True)
        axes.locator_params(nbins=6)
        draw(axes)
        if axes.get_legend_handles_labels()[0]:
            figure.legend(loc="outside lower left", ncols=2, frameon=False)
        for artist in axes.findobj():
            artist.set_clip_on(False)
        file = io.StringIO()
        nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        figure.savefig(file, format="svg", transparent=True, metadata=nothing)
    _, box, body = re.split(r'<svg[^>]*(viewBox="[^"]*")[^>]*>', file.getvalue())
    # Only the identifiers of markers are referred to.
    body = re.sub(r' id="(?!m[0-9a-f]{10}")[^"]*"', "", body)
    body = re.sub("|".join(COLOURS), lambda colour: f"var(--{COLOURS[colour[0]]})", body)
    axis_names = filter(None, (axes.get_title("left"), axes.get_xlabel()))
    label = escape(f"{name}: {' by '.join(axis_names)}")
    return Markup(f'<svg {box} role="img" aria-label="{label}">{body}')


def charts(content: Content) -> dict[str, Markup]:
    """Draw the curves of the content, by their names."""
    return {
        name: svg(name, partial(draw, table=content.tables[name], content=content))
        for name, draw in DRAWN.items()
        if name in content.tables
    }


def estimates(name: str, table: pd.DataFrame, width: float, whole: float | None = None) -> Markup:
    """Draw values with their intervals: columns name, value, low, high; the width is in inches.

    The dashed line is the value of the `whole`.
    """

    def draw(axes: Axes) -> None:
        places = range(len(table))
        axes.set(xlabel=name, ylim=(len(table) - 0.4, -0.6))
        axes.hlines(places, table["low"], table["high"], color=ACCENT, alpha=0.35, linewidth=4)
        axes.plot(table["value"], places, "o", color=ACCENT)
        axes.set_yticks(places, table["name"])
        if whole is not None:
            axes.axvline(whole, **DASHES)
        for place, value in zip(places, table["value"], strict=True):
            axes.text(1.02, place, number(value), transform=axes.get_yaxis_transform(), va="center")

    return svg(name, draw, (width, 0.7 + 0.28 * len(table)))


def trials(axes: Axes, finite: pd.DataFrame) -> None:
    """The scores of a search's trials by family, and the best so far."""
    axes.set(xlabel="trial", title="score")
    axes.step(finite["trial"], finite["best_so_far"], where="post", color=SOFT, label="best so far")
    for family, own in finite.groupby("family"):
        axes.plot(own["trial"], own["score"], "o", label=family)


def _roc(axes: Axes, table: pd.DataFrame, content: Content) -> None:
    axes.set(xlabel="false positive rate", title="true positive rate")
    axes.plot([0, 1], [0, 1], **DASHES)
    _curve(axes, table, "fpr", "tpr", content)


def _precision_recall(axes: Axes, table: pd.DataFrame, content: Content) -> None:
    axes.set(xlabel="recall", title="precision", ylim=(0, 1.02))
    axes.axhline(content.label_rate or 0.0, **DASHES)
    _curve(axes, table, "recall", "precision", content)


def _curve(axes: Axes, table: pd.DataFrame, x: str, y: str, content: Content) -> None:
    """A curve, and a dot on it at the threshold in use."""
    axes.plot(table[x], table[y], linewidth=1.8)
    if content.card.threshold is not None:
        at = table.iloc[int((table["threshold"] - content.card.threshold).abs().argmin())]
        axes.plot(at[x], at[y], "o", color=ACCENT)


def _groups(axes: Axes, table: pd.DataFrame, content: Content) -> None:
    """Means of groups of rows with their bounds, and the line on which prediction is outcome."""
    labels, y = ("predicted", "actual"), "actual"
    if "observed" in table:
        labels, y = ("predicted probability", "observed rate"), "observed"
    axes.set(xlabel=labels[0], title=labels[1])
    ends = table[["predicted", y]].min().min(), table[["predicted", y]].max().max()
    axes.plot(ends, ends, **DASHES)
    axes.vlines(table["predicted"], table["low"], table["high"], color=ACCENT, alpha=0.5)
    axes.plot(table["predicted"], table[y], "o-" if y == "observed" else "o", color=ACCENT)


def _scores(axes: Axes, table: pd.DataFrame, content: Content) -> None:
    axes.set(xlabel="predicted probability", title="share of the label's rows")
    _histogram(axes, table, "negative", color=OTHER, label="negative")
    _histogram(axes, table, "positive", color=ACCENT, label="positive")
    if content.card.threshold is not None:
        axes.axvline(content.card.threshold, **DASHES)


def _errors(axes: Axes, table: pd.DataFrame, content: Content) -> None:
    axes.set(xlabel="predicted less actual", title="share of rows")
    _histogram(axes, table, "rows", color=ACCENT)
    axes.axvline(0, **DASHES)


def _histogram(axes: Axes, table: pd.DataFrame, rows: str, **style: Any) -> None:
    shares = table[rows] / max(table[rows].sum(), 1)
    axes.stairs(shares, [*table["low"], table["high"].iloc[-1]], fill=True, alpha=0.45, **style)


DRAWN: dict[str, Callable[..., None]] = {
    "roc_curve": _roc,
    "precision_recall_curve": _precision_recall,
    "calibration_curve": _groups,
    "score_histogram": _scores,
    "predicted_vs_actual": _groups,
    "residual_histogram": _errors,
}
