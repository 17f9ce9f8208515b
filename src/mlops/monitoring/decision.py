"""The decision that follows from the windows: `ok`, `watch` or `retrain`, and why. Pure.

Only a breach that retraining can repair calls for it, and only when several windows in a row agree:
one window may be noise, and a broken sensor is not repaired by training on its values.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Literal

from mlops.base.errors import listed
from mlops.monitoring.assessment import Column, State, Window
from mlops.monitoring.params import Monitoring

Kind = Literal["share", "scores", "performance", "calibration", "drift", "missing", "unseen"]
RETRAINABLE: frozenset[Kind] = frozenset({"share", "scores", "performance", "calibration"})


@dataclass(frozen=True)
class Breach:
    """One limit that a window exceeds: what was measured, and the limit."""

    kind: Kind
    reason: str


def decide(
    requests: Sequence[Window], labelled: Sequence[Window], limits: Monitoring
) -> tuple[State, tuple[str, ...]]:
    """Judge the windows of requests, and those of labelled rows, both newest first: the state, and
    its reasons."""
    newest = [*requests[:1], *labelled[:1]]
    current = [breach for window in newest for breach in breaches(window, limits)]
    lasting = _lasting(requests, limits) | _lasting(labelled, limits)
    reasons = [
        f"{breach.reason}; {limits.windows} windows in a row"
        if breach.kind in lasting and limits.windows > 1
        else breach.reason
        for breach in current
    ]
    state: State = "retrain" if lasting else "watch" if current else "ok"
    return state, (*reasons, *_too_few(requests, labelled, limits))


def breaches(window: Window, limits: Monitoring) -> tuple[Breach, ...]:
    """Every limit that a window exceeds; too few rows, or labels, exceed none."""
    columns = _columns(window, limits) if window.rows >= limits.rows else ()
    qualities = _qualities(window, limits) if window.labels >= limits.rows else ()
    return (*columns, *qualities)


def drifting(features: Sequence[Column], limits: Monitoring) -> list[Column]:
    """The features that drift beyond the limit, the most first; ignored ones left out."""
    judged = [f for f in features if not ignored(f.name, limits)]
    return _over(judged, lambda f: f.drift or 0.0, limits.drift)


def ignored(name: str, limits: Monitoring) -> bool:
    """Whether a pattern of `monitoring.ignore`, such as `*_7d`, matches a feature."""
    return any(fnmatchcase(name, pattern) for pattern in limits.ignore)


def _lasting(windows: Sequence[Window], limits: Monitoring) -> set[Kind]:
    """The kinds of breaches that retraining can repair and that the newest windows all have."""
    if len(windows) < limits.windows:
        return set()
    kinds = [{b.kind for b in breaches(w, limits)} for w in windows[: limits.windows]]
    return set.intersection(*kinds) & RETRAINABLE


def _too_few(
    requests: Sequence[Window], labelled: Sequence[Window], limits: Monitoring
) -> Iterator[str]:
    rows = requests[0].rows if requests else 0
    if rows < limits.rows:
        yield f"{rows} of {limits.rows} rows: too few to judge drift"
    if labelled and labelled[0].labels < limits.rows:
        yield f"{labelled[0].labels} of {limits.rows} labels: too few to judge performance"
    elif labelled and not any(q.kind == "performance" for q in labelled[0].qualities):
        reason = labelled[0].few or "too few rows of a class in the evidence"
        yield f"performance not judged: {reason}"


def _columns(window: Window, limits: Monitoring) -> Iterator[Breach]:
    features, drifted = window.features, drifting(window.features, limits)
    judged = sum(not ignored(f.name, limits) for f in features)
    share = len(drifted) / max(judged, 1)
    if share > limits.share:
        counts = f"{len(drifted)} of {judged} features drift ({share:.0%})"
        yield Breach("share", f"{counts}, limit {limits.share:.0%}")
    if scores := _over(window.scores, lambda s: s.drift or 0.0, limits.scores):
        names = _listed(scores, lambda s: f"{s.drift:.2f}")
        yield Breach("scores", f"predictions drift: {names}, limit {limits.scores:g}")
    if drifted:
        names = _listed(drifted, lambda f: f"{f.drift:.2f}")
        yield Breach("drift", f"features drift: {names}, limit {limits.drift:g}")
    if missing := _over(features, lambda f: f.missing_rise, limits.missing):
        names = _listed(missing, lambda f: f"{f.missing:.0%}, was {f.missing_before:.0%}")
        yield Breach("missing", f"values are missing: {names}, limit +{limits.missing:.0%}")
    if unseen := _over(features, lambda f: f.unseen, limits.unseen):
        names = _listed(unseen, lambda f: f"{f.unseen:.1%}")
        yield Breach("unseen", f"categories never seen: {names}, limit {limits.unseen:.1%}")


def _qualities(window: Window, limits: Monitoring) -> Iterator[Breach]:
    for quality in window.qualities:
        limit = getattr(limits, quality.kind)
        if quality.worse > limit:
            yield Breach(
                quality.kind,
                f"{quality.metric} {quality.value:.4f} ({quality.low:.4f} to {quality.high:.4f}),"
                f" was {quality.before:.4f}: surely worse by {quality.worse:.4f}, limit {limit:g}",
            )


def _over(
    columns: Sequence[Column], measure: Callable[[Column], float], limit: float
) -> list[Column]:
    over = [column for column in columns if measure(column) > limit]
    return sorted(over, key=lambda column: (-measure(column), column.name))


def _listed(columns: Sequence[Column], value: Callable[[Column], str]) -> str:
    return listed([f"{column.name} {value(column)}" for column in columns])
