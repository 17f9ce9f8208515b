"""The verdict and the tables of the report."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from markupsafe import Markup

from mlops.evaluation.metrics import Interval, main_metric
from mlops.evaluation.report import charts
from mlops.evaluation.report.content import Content
from mlops.evaluation.report.wording import metric_name, number

SLICE_ROWS = 24
IMPORTANCE_ROWS = 20
ESTIMATE = ["name", "value", "low", "high"]


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
    if math.isnan(interval.low):
        return f"Too few to judge against {against}: {content.few or 'the metric is undefined'}."
    if above if greater_is_better else below:
        return f"Better than {against}: the whole 95 % interval is beyond it."
    if below if greater_is_better else above:
        return f"Worse than {against}: the whole 95 % interval falls short of it."
    return f"Not clearly different from {against}: the 95 % interval contains it."


def comparison(content: Content) -> Markup:
    """The model, with its interval, and the baselines on one scale."""
    name, _ = main_metric(content.card.task)
    model = {"name": content.card.name, **vars(content.metrics[name])}
    baselines = [{"name": name, "value": value} for name, value in _baselines(content).items()]
    return charts.estimates(metric_name(name), pd.DataFrame([model, *baselines]), 7)


def bounds(interval: Interval) -> str:
    """Both bounds; a dash where there are none."""
    if math.isnan(interval.low):
        return number(None)
    return f"{number(interval.low)} to {number(interval.high)}"


def metrics(content: Content) -> list[tuple[str, ...]]:
    """The name of each metric, its value, its interval and the baselines' values of it."""
    return [
        (
            metric_name(name),
            number(interval.value),
            bounds(interval),
            *(number(scores.get(name)) for scores in content.baselines.values()),
        )
        for name, interval in content.metrics.items()
    ]


def confusion(content: Content) -> dict[str, Any] | None:
    """Rows by actual label: count and share of the label's rows for each predicted label."""
    if "confusion_matrix" not in content.tables:
        return None
    cells = content.tables["confusion_matrix"].pivot(
        index="actual", columns="predicted", values="rows"
    )
    binary = content.card.task == "binary"
    numbers = ["negative", "positive"] if binary else [str(label) for label in cells.index]
    names = list(content.card.labels) or numbers
    shares = cells.div(cells.sum(axis=1).clip(lower=1), axis=0)
    rows = [
        (names[label], list(zip(cells.loc[label], shares.loc[label], strict=True)))
        for label in cells.index
    ]
    return {"names": names, "rows": rows}


def slices(content: Content) -> list[dict[str, Any]]:
    """The chart and the table of each sliced column: the values with most rows, in their order."""
    name, _ = main_metric(content.card.task)
    table = content.tables.get("slices", pd.DataFrame({"slice": []}))
    columns = []
    for column, values in table.groupby("slice"):
        shown = values.nlargest(SLICE_ROWS, "rows", keep="first").sort_index()
        # Values of so few rows that their noise would set the scale are in the table alone.
        drawn = shown[shown["rows"] >= min(100, 0.01 * values["rows"].sum())]
        drawn = drawn[["value", name, "low", "high"]].set_axis(ESTIMATE, axis=1)
        measured = [name, *shown.columns.drop(["slice", "value", "rows", "low", "high", name])]
        rows = [
            (row["value"], f"{row['rows']:,}", *(number(row[metric]) for metric in measured))
            for row in shown.to_dict("records")
        ]
        title = f"{metric_name(name)} by {column}"
        chart = charts.estimates(title, drawn, 12, content.metrics[name].value)
        head = ["value", "rows", *map(metric_name, measured)]
        columns.append({"name": column, "chart": chart, "table": (head, rows), "of": len(values)})
    return columns


def importance(content: Content) -> Markup | None:
    """The features that matter most."""
    table = content.tables.get("importance", pd.DataFrame())
    if table.empty:
        return None
    shown = table.head(IMPORTANCE_ROWS).set_axis(ESTIMATE, axis=1)
    worse = f"{metric_name(main_metric(content.card.task)[0])} gets worse by"
    return charts.estimates(worse, shown, 12)


def search(content: Content) -> dict[str, Any] | None:
    """The chart of all trials, and a line for each family, best first."""
    trials = content.tables.get("search", pd.DataFrame({"score": []}))
    finite = trials[np.isfinite(trials["score"])]
    if finite.empty:
        return None
    totals = trials.groupby("family").agg(best=("score", "min"), trials=("trial", "size"))
    totals = totals.sort_values(["best", "trials"], ascending=[True, False])
    families = [
        (family, number(row["best"]), int(row["trials"])) for family, row in totals.iterrows()
    ]
    chart = charts.svg("trials", partial(charts.trials, finite=finite))
    given_up = int(trials["score"].isna().sum())
    return {"chart": chart, "families": families, "trials": len(trials), "given_up": given_up}


def _baselines(content: Content) -> dict[str, float]:
    name, _ = main_metric(content.card.task)
    values = {key: scores.get(name, math.nan) for key, scores in content.baselines.items()}
    return {key: value for key, value in values.items() if not math.isnan(value)}


PARTS = (verdict, metrics, comparison, confusion, slices, importance, search)
