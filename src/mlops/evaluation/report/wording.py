"""Format of numbers and names of metrics in the report."""

from __future__ import annotations

import math

METRIC_NAMES = {
    "roc_auc": "ROC AUC",
    "brier": "Brier score",
    "mae": "MAE",
    "rmse": "RMSE",
    "r2": "R²",
}


def number(value: float | None) -> str:
    """Write a value with three or four significant digits; an undefined one as a dash."""
    if value is None or math.isnan(value):
        return "–"
    size = abs(value)
    if size < 1e-12:
        text = "0.000"
    elif size < 0.001:
        text = f"{value:.1e}"
    elif size >= 1000:
        text = f"{value:,.0f}"
    else:
        text = f"{value:.{3 if size < 10 else 2 if size < 100 else 1}f}"
    return text.replace("-", "−")


def metric_name(name: str) -> str:
    """The usual name of a metric."""
    return METRIC_NAMES.get(name, name.replace("_", " ").capitalize())
