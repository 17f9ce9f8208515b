"""What was seen, in Markdown: a dozen lines for an artifact or a pull request."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlops.gitops.markdown import table
from mlops.monitoring.decision import breaches, drifting
from mlops.monitoring.params import Monitoring
from mlops.monitoring.window import Window

if TYPE_CHECKING:
    from mlops.monitoring.watch import Watched

FEATURES = 10


def markdown(watched: Watched, limits: Monitoring) -> str:
    """The state, its reasons, the windows, and the features that drift most."""
    parts = [
        f"## {watched.environment}: {watched.state}",
        f"{watched.model}, at {watched.now:%Y-%m-%d %H:%M} UTC",
        "\n".join(f"- {line}" for line in (*watched.reasons, *watched.notes))
        or "Nothing exceeds its limit.",
        _windows(watched.windows, limits),
        _features(watched.windows[0], limits),
        _labelled(watched.labelled, limits),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _windows(windows: tuple[Window, ...], limits: Monitoring) -> str:
    rows = [
        (
            window.span, f"{window.rows:,}", str(len(drifting(window.features, limits))),
            ", ".join(_index(score.drift) for score in window.scores) or "–",
            _exceeded(window, limits),
        )
        for window in windows
    ]  # fmt: skip
    return table(("asked (UTC)", "rows", "features drift", "scores drift", "exceeds"), rows)


def _features(window: Window, limits: Monitoring) -> str:
    worst = drifting(window.features, limits)[:FEATURES]
    if not worst:
        return ""
    rows = [(f.name, _index(f.drift), f"{f.missing:.1%}", f"{f.unseen:.1%}") for f in worst]
    return table(("feature", f"drift (limit {limits.drift:g})", "missing", "unseen"), rows)


def _labelled(windows: tuple[Window, ...], limits: Monitoring) -> str:
    rows = [
        (
            window.span, f"{window.labels:,}", quality.metric,
            f"{quality.value:.4f} ({quality.low:.4f} to {quality.high:.4f})",
            f"{quality.before:.4f}", "yes" if quality.worse > getattr(limits, quality.kind) else "",
        )
        for window in windows
        for quality in window.qualities
    ]  # fmt: skip
    head = ("labelled (UTC)", "labels", "metric", "now", "evidence", "exceeds")
    return table(head, rows) if rows else ""


def _index(drift: float | None) -> str:
    return "–" if drift is None else f"{drift:.2f}"


def _exceeded(window: Window, limits: Monitoring) -> str:
    if window.rows < limits.rows:
        return "too few rows"
    return ", ".join(breach.kind for breach in breaches(window, limits))
