"""The assessment as one HTML file, in the style of the evaluation's report."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mlops.evaluation.report import page
from mlops.monitoring.assessment import Assessment
from mlops.monitoring.decision import drifting, ignored
from mlops.monitoring.params import Monitoring
from mlops.monitoring.summary import exceeded
from mlops.monitoring.window import Column, Window

TEMPLATE = Path(__file__).parent / "page.html.j2"
# Features whose bins are drawn; the table lists them all.
PICTURES = 8
# The scale of the drift bars ends at this multiple of the limit.
SCALE = 4


def render(assessment: Assessment, limits: Monitoring) -> str:
    """Write the page."""
    newest = assessment.windows[0]
    drifted = drifting(newest.features, limits)[:PICTURES]
    return page.template(TEMPLATE).render(
        assessment=assessment,
        limits=limits,
        newest=newest,
        windows=[
            (window, len(drifting(window.features, limits)), exceeded(window, limits))
            for window in assessment.windows
        ],
        pictures=[_picture(column) for column in (*newest.scores, *drifted)],
        features=_features(newest, limits),
        scale=SCALE * limits.drift,
        limit_at=100 / SCALE,
    )


def _picture(column: Column) -> dict[str, Any]:
    """A column's bins, with bars in percent of the longest."""
    highest = max((max(b.before, b.now) for b in column.bins), default=0) or 1
    rows = [
        {"label": b.label, "now": b.now, "before_bar": 100 * b.before / highest,
         "now_bar": 100 * b.now / highest}
        for b in column.bins
    ]  # fmt: skip
    return {"name": column.name, "drift": column.drift, "rows": rows}


def _features(window: Window, limits: Monitoring) -> list[dict[str, Any]]:
    """All features, the one that drifts most first, with its bar in percent of the scale."""
    rows = [
        {
            "column": feature,
            "bar": min(100 * (feature.drift or 0.0) / (SCALE * limits.drift), 100),
            "ignored": ignored(feature.name, limits),
            "missing_exceeds": feature.missing_rise > limits.missing,
            "unseen_exceeds": feature.unseen > limits.unseen,
        }
        for feature in sorted(window.features, key=lambda f: (-(f.drift or 0.0), f.name))
    ]
    return sorted(rows, key=lambda row: bool(row["ignored"]))
