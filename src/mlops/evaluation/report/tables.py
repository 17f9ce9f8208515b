"""The verdict and the tables of the report, with marks placed in percent of their column."""

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
    """Say in one sentence how the main metric stands against the best baseline."""
    name, greater_is_better = main_metric(content.task)
    rivals = _rivals(content)
    if not rivals:
        return "There is no baseline to compare with."
    best = (max if greater_is_better else min)(rivals, key=lambda rival: rivals[rival])
    interval, rival = content.metrics[name], rivals[best]
    ahead = interval.low > rival if greater_is_better else interval.high < rival
    behind = interval.high < rival if greater_is_better else interval.low > rival
    against = f"the best baseline, {best} ({number(rival)})"
    if ahead:
        return f"Better than {against}: the whole 95 % interval is beyond it."
    if behind:
        return f"Worse than {against}: the whole 95 % interval falls short of it."
    return f"Not clearly different from {against}: the 95 % interval contains it."


def _rivals(content: ReportContent) -> dict[str, float]:
    name, _ = main_metric(content.task)
    values = {rival: scores.get(name, math.nan) for rival, scores in content.baselines.items()}
    return {rival: value for rival, value in values.items() if not math.isnan(value)}


def ladder(content: ReportContent) -> list[dict[str, Any]]:
    """The model and the baselines on one scale, as percentages of its width."""
    name, _ = main_metric(content.task)
    model = content.metrics[name]
    rivals = _rivals(content)
    values = [
        v for v in (model.value, model.low, model.high, *rivals.values()) if not math.isnan(v)
    ]
    axis = _padded(values)
    spans = {content.model.name: _span(axis, model.low, model.high)}
    steps = [(content.model.name, model.value), *rivals.items()]
    return [
        {"name": who, "value": value, "at": axis.at(value), "span": spans.get(who)}
        for who, value in steps
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
    """Leave out slices so small that their noise would set the scale for all."""
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
