"""The assessment in Markdown, for an artifact or a pull request, and as one HTML file."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from mlops.evaluation.report import charts
from mlops.evaluation.report.page import template
from mlops.gitops import markdown as forge
from mlops.monitoring.assessment import Assessment, Column, Window
from mlops.monitoring.decision import breaches, drifting, ignored
from mlops.monitoring.params import Monitoring

if TYPE_CHECKING:
    from matplotlib.axes import Axes

TEMPLATE = Path(__file__).parent / "page.html.j2"
# Features in the Markdown, and those whose bins are drawn; the page's table lists them all.
FEATURES, PICTURES = 10, 8
Table = tuple[tuple[str, ...], list[tuple[str, ...]]]


def markdown(assessment: Assessment, limits: Monitoring) -> str:
    """Write the state, its reasons, the windows, and the features that drift most."""
    worst = drifting(assessment.windows[0].features, limits)[:FEATURES]
    notes = [f"- {line}" for line in (*assessment.reasons, *assessment.notes)]
    # The page alone shows the last columns of the features and of the labelled rows.
    tables = {
        5: _windows(assessment.windows, limits),
        4: _features(worst, limits),
        6: _labelled(assessment.labelled, limits),
    }
    parts = [
        f"## {assessment.environment}: {assessment.state}",
        f"{assessment.model}, at {assessment.now:%Y-%m-%d %H:%M} UTC",
        "\n".join(notes) or "Nothing exceeds its limit.",
    ]
    for width, (head, rows) in tables.items():
        if rows:
            parts.append(forge.table(head[:width], [row[:width] for row in rows]))
    return "\n\n".join(parts) + "\n"


def page(assessment: Assessment, limits: Monitoring) -> str:
    """Write the page, in the style of the evaluation's report."""
    import pandas as pd

    newest = assessment.windows[0]
    features = sorted(
        newest.features, key=lambda f: (ignored(f.name, limits), -(f.drift or 0.0), f.name)
    )
    drawn = (*newest.scores, *drifting(newest.features, limits)[:PICTURES])
    drift = pd.DataFrame({"name": [f.name for f in features]})
    drift["value"] = drift["high"] = [math.nan if f.drift is None else f.drift for f in features]
    return template(TEMPLATE).render(
        assessment=assessment,
        limits=limits,
        windows=_windows(assessment.windows, limits),
        labelled=_labelled(assessment.labelled, limits),
        features=_features(features, limits),
        drift=charts.estimates(f"drift, limit {limits.drift:g}", drift.assign(low=0.0), 12),
        pictures=[(c, charts.svg(c.name, partial(_bins, column=c), (4.4, 4.2))) for c in drawn],
    )


def _bins(axes: Axes, column: Column) -> None:
    """The shares of the reference's values, and of the newest window's, in each bin."""
    for offset, name, colour in ((-0.2, "before", charts.SOFT), (0.2, "now", charts.ACCENT)):
        places = [place + offset for place in range(len(column.bins))]
        shares = [getattr(b, name) for b in column.bins]
        bars = axes.barh(places, shares, 0.36, color=colour, alpha=0.6)
    axes.bar_label(bars, fmt="{:.1%}", padding=3)
    axes.set_yticks(range(len(column.bins)), [b.label for b in column.bins])
    axes.invert_yaxis()


def _windows(windows: Sequence[Window], limits: Monitoring) -> Table:
    rows: list[tuple[str, ...]] = []
    for window in windows:
        drifted = str(len(drifting(window.features, limits)))
        scores = ", ".join(_index(score.drift) for score in window.scores) or "–"
        kinds = ", ".join(breach.kind for breach in breaches(window, limits))
        exceeded = "too few rows" if window.rows < limits.rows else kinds
        rows.append((window.span, f"{window.rows:,}", drifted, scores, exceeded))
    return ("requests (UTC)", "rows", "features drift", "scores drift", "exceeds"), rows


def _features(features: Sequence[Column], limits: Monitoring) -> Table:
    head = ("feature", f"drift (limit {limits.drift:g})", "missing", "unseen", "missing before")
    rows: list[tuple[str, ...]] = []
    for f in features:
        exceeded = {
            "ignored": ignored(f.name, limits),
            "drift": bool(drifting([f], limits)),
            "missing": f.missing_rise > limits.missing,
            "unseen": f.unseen > limits.unseen,
        }
        shares = (f"{share:.1%}" for share in (f.missing, max(f.unseen, 0.0), f.missing_before))
        kinds = ", ".join(kind for kind, exceeds in exceeded.items() if exceeds)
        rows.append((f.name, _index(f.drift), *shares, kinds))
    return (*head, "exceeds"), rows


def _labelled(windows: Sequence[Window], limits: Monitoring) -> Table:
    rows: list[tuple[str, ...]] = []
    for window, q in [(w, quality) for w in windows for quality in w.qualities]:
        now = f"{q.value:.4f} ({q.low:.4f} to {q.high:.4f})"
        exceeds = "yes" if q.worse > getattr(limits, q.kind) else ""
        worse = f"{q.worse:.4f}" if q.worse > 0 else "–"
        cells = (window.span, f"{window.labels:,}", q.metric, now, f"{q.before:.4f}")
        rows.append((*cells, exceeds, worse))
    head = ("labelled (UTC)", "labels", "metric", "now", "evidence", "exceeds", "surely worse by")
    return head, rows


def _index(drift: float | None) -> str:
    return "–" if drift is None else f"{drift:.2f}"
