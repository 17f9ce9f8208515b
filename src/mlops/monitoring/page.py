"""The page of what was seen: one HTML file, in the style of the evaluation's report."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlops.evaluation.report import page
from mlops.monitoring.decision import breaches, drifting, ignored
from mlops.monitoring.params import Monitoring
from mlops.monitoring.window import Column, Window

if TYPE_CHECKING:
    from mlops.monitoring.watch import Watched

TEMPLATE = Path(__file__).parent / "page.html.j2"
# Features whose bins are drawn; the table has them all.
PICTURES = 8
# The scale of the drift bars ends at so many times the limit.
SCALE = 4


def render(watched: Watched, limits: Monitoring) -> str:
    """Write the page."""
    newest = watched.windows[0]
    return page.template(TEMPLATE).render(
        watched=watched,
        limits=limits,
        newest=newest,
        exceeded={w: ", ".join(b.kind for b in breaches(w, limits)) for w in watched.windows},
        drifted=[len(drifting(w.features, limits)) for w in watched.windows],
        pictures=_pictures(newest, limits),
        features=_features(newest, limits),
        scale=SCALE * limits.drift,
        limit_at=100 / SCALE,
    )


def _pictures(window: Window, limits: Monitoring) -> list[dict[str, Any]]:
    """What drifted most, bin by bin; of the predictions always."""
    return [_picture(column) for column in (*window.scores, *drifting(window.features, limits))][
        : PICTURES + len(window.scores)
    ]


def _picture(column: Column) -> dict[str, Any]:
    highest = max((max(b.before, b.now) for b in column.bins), default=0) or 1
    rows = [
        {"label": b.label, "before": b.before, "now": b.now,
         "before_bar": 100 * b.before / highest, "now_bar": 100 * b.now / highest}
        for b in column.bins
    ]  # fmt: skip
    return {"name": column.name, "drift": column.drift, "rows": rows}


def _features(window: Window, limits: Monitoring) -> list[dict[str, Any]]:
    """All features, the one that drifts most first, with its bar in percent of the scale."""
    ordered = sorted(
        window.features, key=lambda f: (ignored(f.name, limits), -(f.drift or 0.0), f.name)
    )
    return [
        {
            "column": feature,
            "bar": min(100 * (feature.drift or 0.0) / (SCALE * limits.drift), 100),
            "ignored": ignored(feature.name, limits),
            "missing_exceeds": feature.missing_rise > limits.missing,
            "unseen_exceeds": feature.unseen > limits.unseen,
        }
        for feature in ordered
    ]
