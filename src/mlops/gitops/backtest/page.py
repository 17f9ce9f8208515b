"""The backtest as one HTML page, as a table that `dvc plots` shows, and in one line."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from mlops.evaluation.metrics import SLICE_METRICS, main_metric
from mlops.evaluation.report import charts
from mlops.evaluation.report.page import template
from mlops.evaluation.report.tables import bounds
from mlops.evaluation.report.wording import metric_name, number
from mlops.gitops.backtest.content import PERIOD_DAYS, Content, Group

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Metrics beside the main one in the page's tables; the CSV has them all.
OTHERS = 3
TEMPLATE = Path(__file__).parent / "page.html.j2"


def table(periods: Sequence[Group]) -> pd.DataFrame:
    """A row for each period: its days, model, rows, and each metric with its interval."""
    rows = []
    for group in periods:
        measured = {
            name: value
            for metric, interval in group.metrics.items()
            for name, value in (
                (metric, interval.value), (f"{metric}_low", interval.low),
                (f"{metric}_high", interval.high),
            )
        }  # fmt: skip
        facts = {"from": group.first, "to": group.last, "model": group.digest[:12]}
        rows.append({**facts, "trained_on": group.trained_on, "rows": group.rows, **measured})
    return pd.DataFrame(rows)


def summary(content: Content) -> str:
    """The main metric of the rows that no model was trained on, and how many were left out."""
    name = metric_name(main_metric(content.card.task)[0])
    groups, scope = content.models, content.scope
    rows = sum(group.rows for group in groups if not group.trained_on)
    trained = sum(group.rows for group in groups if group.trained_on)
    apart = f"; {trained:,} of days that a model was trained on stand apart" if trained else ""
    days = f"{scope.first} to {scope.last}"
    if content.main is None:
        result = f"every day lies inside its model's training data, {days}: no figure is a fair one"
    else:
        result = f"{name} {number(content.main.value)} ({bounds(content.main)}) on {rows:,} rows"
        result += f" of {days}"
    return f"{scope.environment}: {result}{apart}"


def render(content: Content) -> str:
    """Write the page, in the style of the evaluation's report."""
    name, greater_is_better = main_metric(content.card.task)
    others = [metric for metric in SLICE_METRICS[content.card.task] if metric != name][:OTHERS]
    over_time = table(content.periods)

    def cells(group: Group) -> tuple[str, ...]:
        measured = group.metrics
        values = (number(measured[metric].value) for metric in others)
        return f"{group.rows:,}", number(measured[name].value), bounds(measured[name]), *values

    head = ("rows", metric_name(name), "95 % interval", *map(metric_name, others))
    periods = [
        (f"{group.first} to {group.last}", group.digest[:12], trained(group), *cells(group))
        for group in content.periods
    ]
    models = [
        (group.digest[:12], trained(group), *cells(group),
         number(content.pins[group.digest].metrics.get(name)))
        for group in content.models
    ]  # fmt: skip
    return template(TEMPLATE).render(
        content=content,
        period_days=PERIOD_DAYS,
        main=name,
        greater_is_better=greater_is_better,
        chart=charts.svg(
            f"{metric_name(name)} over time",
            lambda axes: _over_time(axes, over_time, name, content),
            (12, 3.6),
        ),
        periods=(("days", "model", "trained on", *head), periods),
        models=(("model", "trained on", *head, "at its release"), models),
    )


def trained(group: Group) -> str:
    """Whether the model was trained on a group's days."""
    return "yes" if group.trained_on else "no"


def _over_time(axes: Axes, periods: pd.DataFrame, name: str, content: Content) -> None:
    """The main metric of each period with its interval; periods that were trained on in grey."""
    first, last = pd.to_datetime(periods["from"]), pd.to_datetime(periods["to"])
    middle = first + (last - first) / 2
    for is_trained, colour, label in (
        (False, charts.ACCENT, "not trained on"),
        (True, charts.SOFT, "inside the model's training data"),
    ):
        own = periods["trained_on"] == is_trained
        if own.any():
            low, high, value = (periods.loc[own, f"{name}{e}"] for e in ("_low", "_high", ""))
            axes.vlines(middle[own], low, high, color=colour, alpha=0.35, linewidth=4)
            axes.plot(middle[own], value, "o", color=colour, label=label)
    changes: Any = first[periods["model"] != periods["model"].shift()][1:]
    for place in changes:
        axes.axvline(place, **charts.DASHES)
    if content.main:
        axes.axhline(content.main.value, **charts.DASHES)
    axes.set(title=metric_name(name))
