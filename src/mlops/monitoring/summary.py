"""The assessment in Markdown: a dozen lines for an artifact or a pull request."""

from __future__ import annotations

from mlops.gitops.markdown import table
from mlops.monitoring.assessment import Assessment
from mlops.monitoring.decision import breaches, drifting
from mlops.monitoring.params import Monitoring
from mlops.monitoring.window import Window

FEATURES = 10


def markdown(assessment: Assessment, limits: Monitoring) -> str:
    """Write the state, its reasons, the windows, and the features that drift most."""
    parts = [
        f"## {assessment.environment}: {assessment.state}",
        f"{assessment.model}, at {assessment.now:%Y-%m-%d %H:%M} UTC",
        "\n".join(f"- {line}" for line in (*assessment.reasons, *assessment.notes))
        or "Nothing exceeds its limit.",
        _windows(assessment.windows, limits),
        _features(assessment.windows[0], limits),
        _labelled(assessment.labelled, limits),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def exceeded(window: Window, limits: Monitoring) -> str:
    """The limits that a window exceeds, by name."""
    if window.rows < limits.rows:
        return "too few rows"
    return ", ".join(breach.kind for breach in breaches(window, limits))


def _windows(windows: tuple[Window, ...], limits: Monitoring) -> str:
    rows = [
        (
            window.span, f"{window.rows:,}", str(len(drifting(window.features, limits))),
            ", ".join(_index(score.drift) for score in window.scores) or "–",
            exceeded(window, limits),
        )
        for window in windows
    ]  # fmt: skip
    return table(("requests (UTC)", "rows", "features drift", "scores drift", "exceeds"), rows)


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
