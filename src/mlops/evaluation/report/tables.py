"""The verdict and the tables of the report, with positions in percent of their column."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from mlops.evaluation.metrics import main_metric
from mlops.evaluation.report.content import ReportContent
from mlops.evaluation.report.plane import Axis
from mlops.evaluation.report.wording import number

SLICE_ROWS = 24
IMPORTANCE_ROWS = 20


def verdict(content: ReportContent) -> str:
    """Compare the main metric with the best baseline, in one sentence."""
    name, greater_is_better = main_metric(content.task)
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


def _baselines(content: ReportContent) -> dict[str, float]:
    name, _ = main_metric(content.task)
    values = {key: scores.get(name, math.nan) for key, scores in content.baselines.items()}
    return {key: value for key, value in values.items() if not math.isnan(value)}


def comparison(content: ReportContent) -> list[dict[str, Any]]:
    """The model and the baselines on one scale, as percentages of its width."""
    name, _ = main_metric(content.task)
    model = content.metrics[name]
    baselines = _baselines(content)
    axis = _padded([model.value, model.low, model.high, *baselines.values()])
    spans = {content.model.name: _span(axis, model.low, model.high)}
    rows = [(content.model.name, model.value), *baselines.items()]
    return [
        {"name": row, "value": value, "at": axis.at(value), "span": spans.get(row)}
        for row, value in rows
    ]


def _padded(values: Sequence[float]) -> Axis:
    finite = [value for value in values if math.isfinite(value)] or [0.0]
    return Axis(min(finite), max(finite), 4, 96)


def _span(axis: Axis, low: float, high: float) -> tuple[float, float] | None:
    return None if math.isnan(low) else (axis.at(low), round(axis.at(high) - axis.at(low), 1))


def confusion(content: ReportContent) -> dict[str, Any] | None:
    """Rows by actual label: count and share of the label's rows for each predicted label."""
    if "confusion_matrix" not in content.curves:
        return None
    cells = content.curves["confusion_matrix"].pivot(
        index="actual", columns="predicted", values="rows"
    )
    defaults = ["negative", "positive"] if content.task == "binary" else list(map(str, cells.index))
    names = list(content.classes) or defaults
    shares = cells.div(cells.sum(axis=1).clip(lower=1), axis=0)
    rows = [
        (names[label], list(zip(cells.loc[label], shares.loc[label], strict=True)))
        for label in cells.index
    ]
    return {"names": names, "rows": rows}


def slices(content: ReportContent) -> dict[str, Any] | None:
    """One table per sliced column: the values with most rows, in their own order."""
    if content.slices is None or content.slices.empty:
        return None
    name, _ = main_metric(content.task)
    overall = content.metrics[name].value
    axis = _padded([*_sizeable(content.slices)[name].dropna(), overall])
    tables = []
    for column, table in content.slices.groupby("slice"):
        shown = table.nlargest(SLICE_ROWS, "rows", keep="first").sort_index()
        rows = [row | _placed(row, name, axis) for row in shown.to_dict("records")]
        tables.append({"name": column, "rows": rows, "all_values": len(table)})
    facts = ("slice", "value", "rows", "low", "high", name)
    measured = [name, *(column for column in content.slices if column not in facts)]
    return {"tables": tables, "measured": measured, "overall": axis.at(overall)}


def _sizeable(slices: pd.DataFrame) -> pd.DataFrame:
    """Leave out slices so small that their noise would set the scale of all."""
    whole = slices.groupby("slice")["rows"].transform("sum")
    return slices[slices["rows"] >= np.minimum(100, 0.01 * whole)]


def _placed(row: Mapping[Any, Any], name: str, axis: Axis) -> dict[str, Any]:
    edges = axis.value_at(0), axis.value_at(100)
    value, low, high = np.clip([row[name], row["low"], row["high"]], *edges)
    return {"at": axis.at(value), "span": _span(axis, low, high)}


def importance(table: pd.DataFrame | None) -> dict[str, Any] | None:
    """One bar for each of the features that matter most, from a common zero."""
    if table is None or table.empty:
        return None
    shown = table.head(IMPORTANCE_ROWS)
    axis = Axis(min(0.0, shown["low"].min()), max(shown["high"].max(), 0.0), 0, 100)
    rows = [
        {
            "feature": row["feature"],
            "importance": row["importance"],
            "bar": _span(axis, min(0, row["importance"]), max(0, row["importance"])),
            "span": _span(axis, row["low"], row["high"]),
        }
        for row in shown.to_dict("records")
    ]
    return {"rows": rows, "left_out": len(table) - len(shown)}
