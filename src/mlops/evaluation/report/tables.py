"""The verdict and the tables of the report, with positions in percent of their column."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import pandas as pd

from mlops.evaluation.metrics import main_metric
from mlops.evaluation.report.content import Content
from mlops.evaluation.report.wording import number

SLICE_ROWS = 24
IMPORTANCE_ROWS = 20
Scale = Callable[[float], float]


def verdict(content: Content) -> str:
    """Compare the main metric with the best baseline, in one sentence."""
    name, greater_is_better = main_metric(content.card.task)
    baselines = _baselines(content)
    if not baselines:
        return "There is no baseline to compare with."
    best = (max if greater_is_better else min)(baselines, key=lambda name: baselines[name])
    interval, value = content.metrics[name], baselines[best]
    above, below = interval.low > value, interval.high < value
    against = f"the best baseline, {best} ({number(value)})"
    if above if greater_is_better else below:
        return f"Better than {against}: the whole 95 % interval is beyond it."
    if below if greater_is_better else above:
        return f"Worse than {against}: the whole 95 % interval falls short of it."
    return f"Not clearly different from {against}: the 95 % interval contains it."


def comparison(content: Content) -> list[dict[str, Any]]:
    """The model and the baselines on one scale."""
    model = content.metrics[main_metric(content.card.task)[0]]
    baselines = _baselines(content)
    scale = _scale([model.value, model.low, model.high, *baselines.values()])
    span = _span(scale, model.low, model.high)
    rows = [(content.card.name, model.value, span), *((*b, None) for b in baselines.items())]
    return [
        {"name": name, "value": value, "at": scale(value), "span": span}
        for name, value, span in rows
    ]


def confusion(content: Content) -> dict[str, Any] | None:
    """Rows by actual label: count and share of the label's rows for each predicted label."""
    if "confusion_matrix" not in content.tables:
        return None
    cells = content.tables["confusion_matrix"].pivot(
        index="actual", columns="predicted", values="rows"
    )
    binary = content.card.task == "binary"
    names = ["negative", "positive"] if binary else [str(label) for label in cells.index]
    shares = cells.div(cells.sum(axis=1).clip(lower=1), axis=0)
    rows = [
        (names[label], list(zip(cells.loc[label], shares.loc[label], strict=True)))
        for label in cells.index
    ]
    return {"names": names, "rows": rows}


def slices(content: Content) -> dict[str, Any] | None:
    """One table per sliced column: the values with most rows, in their own order."""
    table = content.tables.get("slices", pd.DataFrame())
    if table.empty:
        return None
    name, _ = main_metric(content.card.task)
    overall = content.metrics[name].value
    # Slices so small that their noise would set the scale of all do not.
    whole = table.groupby("slice")["rows"].transform("sum")
    sizeable = table["rows"] >= np.minimum(100, 0.01 * whole)
    scale = _scale([*table.loc[sizeable, name], overall])
    columns = []
    for column, values in table.groupby("slice"):
        rows = values.nlargest(SLICE_ROWS, "rows", keep="first").sort_index().to_dict("records")
        placed = [
            {**row, "at": scale(row[name]), "span": _span(scale, row["low"], row["high"])}
            for row in rows
        ]
        columns.append({"name": column, "rows": placed, "all_values": len(values)})
    facts = ("slice", "value", "rows", "low", "high", name)
    measured = [name, *(column for column in table if column not in facts)]
    return {"tables": columns, "measured": measured, "overall": scale(overall)}


def importance(content: Content) -> dict[str, Any] | None:
    """One bar for each of the features that matter most, from a common zero."""
    table = content.tables.get("importance", pd.DataFrame())
    if table.empty:
        return None
    shown = table.head(IMPORTANCE_ROWS)
    scale = _scale([0.0, *shown["low"], *shown["high"]], margin=0)
    rows = [
        {
            **row,
            "bar": _span(scale, min(0, row["importance"]), max(0, row["importance"])),
            "span": _span(scale, row["low"], row["high"]),
        }
        for row in shown.to_dict("records")
    ]
    return {"rows": rows, "left_out": len(table) - len(shown)}


def _baselines(content: Content) -> dict[str, float]:
    name, _ = main_metric(content.card.task)
    values = {key: scores.get(name, math.nan) for key, scores in content.baselines.items()}
    return {key: value for key, value in values.items() if not math.isnan(value)}


def _scale(values: Iterable[float], margin: float = 4) -> Scale:
    """A linear scale over the finite values; what lies beyond them is at its ends."""
    finite = [value for value in values if math.isfinite(value)] or [0.0]
    ends, places = (min(finite), max(finite)), (margin, 100 - margin)
    return lambda value: round(float(np.interp(value, ends, places)), 1)


def _span(scale: Scale, low: float, high: float) -> tuple[float, float] | None:
    return None if math.isnan(low) else (scale(low), round(scale(high) - scale(low), 1))
