"""Charts of the report, each from the table of `mlops.evaluation.report.curves` of its name."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from mlops.contract.project import Task
from mlops.evaluation.report.content import ModelFacts, ReportContent
from mlops.evaluation.report.plane import Chart, Mark, Plane

COLOURS = 6
UNIT = (0.0, 1.0)


def charts(content: ReportContent) -> list[Chart]:
    """Draw the curves of the content, in the order of the page."""
    model = content.model
    builders = {
        "roc_curve": lambda table: _roc(table, model.threshold),
        "precision_recall_curve": lambda table: _precision_recall(table, model),
        "calibration_curve": lambda table: _calibration(table, content.task),
        "score_histogram": lambda table: _scores(table, model.threshold),
        "predicted_vs_actual": _predicted_vs_actual,
        "residual_histogram": _residuals,
    }
    return [
        build(content.curves[name]) for name, build in builders.items() if name in content.curves
    ]


def _at_threshold(table: pd.DataFrame, threshold: float | None) -> pd.DataFrame:
    if threshold is None:
        return table.head(0)
    return table.loc[[(table["threshold"] - threshold).abs().idxmin()]]


def _roc(table: pd.DataFrame, threshold: float | None) -> Chart:
    plane = Plane.over(UNIT, UNIT)
    chosen = _at_threshold(table, threshold)
    return plane.chart(
        "ROC",
        "The dot is the threshold in use; the dashes are chance.",
        ("false positive rate", "true positive rate"),
        Mark("dashes", plane.line(UNIT, UNIT)),
        Mark("line", plane.line(table["fpr"], table["tpr"])),
        Mark("dot", plane.dots(chosen["fpr"], chosen["tpr"])),
    )


def _precision_recall(table: pd.DataFrame, model: ModelFacts) -> Chart:
    plane = Plane.over(UNIT, UNIT)
    chosen = _at_threshold(table, model.threshold)
    rate = model.label_rate
    chance = [Mark("dashes", plane.line(UNIT, (rate, rate)))] if rate is not None else []
    return plane.chart(
        "Precision and recall",
        "The dot is the threshold in use; the dashes are the label rate.",
        ("recall", "precision"),
        *chance,
        Mark("line", plane.line(table["recall"], table["precision"])),
        Mark("dot", plane.dots(chosen["recall"], chosen["precision"])),
    )


def _calibration(table: pd.DataFrame, task: Task) -> Chart:
    high = min(1.0, 1.08 * max(table["predicted"].max(), table["high"].max()))
    low = 0.0 if task == "binary" else max(0.0, table[["predicted", "low"]].to_numpy().min() - 0.05)
    plane = Plane.over((low, high), (low, high))
    scope = "" if task == "binary" else " of the most likely class"
    return plane.chart(
        "Calibration",
        f"Ten groups of equal size by probability{scope}, with 95 % intervals; on the dashes, "
        "outcomes are as frequent as predicted.",
        ("predicted probability", "observed rate"),
        Mark("dashes", plane.line((low, high), (low, high))),
        Mark("whisker", plane.whiskers(table, "predicted")),
        Mark("thin", plane.line(table["predicted"], table["observed"])),
        Mark("dot", plane.dots(table["predicted"], table["observed"])),
    )


def _scores(table: pd.DataFrame, threshold: float | None) -> Chart:
    negative, positive = (
        table[label] / max(table[label].sum(), 1) for label in ("negative", "positive")
    )
    plane = Plane.over(UNIT, (0, 1.05 * max(negative.max(), positive.max())))
    limits = [] if threshold is None else [(threshold, threshold)]
    return plane.chart(
        "Scores",
        "Share of each label by predicted probability; the dashes are the threshold.",
        ("predicted probability", "share of the label's rows"),
        Mark("area other", plane.histogram(table, negative), "negative"),
        Mark("area", plane.histogram(table, positive), "positive"),
        *(Mark("dashes", plane.line(limit, (0, plane.y.high))) for limit in limits),
    )


def _predicted_vs_actual(table: pd.DataFrame) -> Chart:
    values = table[["predicted", "actual", "low", "high"]].to_numpy()
    ends = float(values.min()), float(values.max())
    plane = Plane.over(ends, ends)
    return plane.chart(
        "Predicted and actual",
        "Twenty groups of equal size by prediction: the actual mean and middle 80 %.",
        ("predicted", "actual"),
        Mark("dashes", plane.line(ends, ends)),
        Mark("whisker", plane.whiskers(table, "predicted")),
        Mark("dot", plane.dots(table["predicted"], table["actual"])),
    )


def _residuals(table: pd.DataFrame) -> Chart:
    share = table["rows"] / table["rows"].sum()
    ends = float(table["low"].min()), float(table["high"].max())
    plane = Plane.over(ends, (0, 1.05 * share.max()))
    return plane.chart(
        "Errors",
        "Predicted less actual; the outermost half percent on either side is in the last bars.",
        ("predicted less actual", "share of rows"),
        Mark("area", plane.histogram(table, share)),
        Mark("dashes", plane.line((0, 0), (0, plane.y.high))),
    )


def search(trials: pd.DataFrame | None) -> dict[str, Any] | None:
    """The chart of all trials, and a line for each family, best first."""
    if trials is None or trials.empty:
        return None
    finite = trials[np.isfinite(trials["score"])]
    if finite.empty:
        return None
    spread = (finite["score"].max() - finite["score"].min()) or 1.0
    ends = finite["score"].min() - 0.05 * spread, finite["score"].max() + 0.05 * spread
    plane = Plane.over((trials["trial"].min(), trials["trial"].max()), ends)
    families = sorted(trials["family"].astype(str).unique())
    marks = [
        Mark(f"point c{index % COLOURS}", plane.dots(own["trial"], own["score"]), family)
        for index, family in enumerate(families)
        for own in [finite[finite["family"].astype(str) == family]]
    ]
    best = Mark("best", plane.steps(finite["trial"], finite["best_so_far"]), "best so far")
    totals = trials.groupby("family").agg(trials=("trial", "size"))
    rising = finite["best_so_far"].iloc[-1] >= finite["best_so_far"].iloc[0]
    totals["best"] = finite.groupby("family")["score"].agg("max" if rising else "min")
    totals = totals.sort_values(["best", "trials"], ascending=[not rising, False]).reset_index()
    chart = plane.chart("Trials", "", ("trial", "score"), best, *marks)
    return {"chart": chart, "families": totals.to_dict("records"), "trials": len(trials)}
