"""What follows from the windows: `ok`, `watch` or `retrain`, and why. Pure.

Only what another training can mend calls for it, and only when so many windows in a row agree:
one window may be noise, and a broken sensor is not mended by learning from it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Literal

from mlops.monitoring.params import Monitoring
from mlops.monitoring.window import Column, Quality, Window

State = Literal["ok", "watch", "retrain"]
Kind = Literal["share", "scores", "performance", "calibration", "drift", "missing", "unseen"]
MENDABLE: tuple[Kind, ...] = ("share", "scores", "performance", "calibration")
# More names would not be read.
NAMED = 5


@dataclass(frozen=True)
class Breach:
    """One limit that a window exceeds: what was found, and the limit."""

    kind: Kind
    reason: str


@dataclass(frozen=True)
class Decision:
    """The state, and its reasons."""

    state: State
    reasons: tuple[str, ...]


def decide(asked: Sequence[Window], labelled: Sequence[Window], limits: Monitoring) -> Decision:
    """Judge the windows of requests, and those of labelled rows; both newest first."""
    newest = [*_newest(asked, limits), *_newest(labelled, limits)]
    lasting = {
        kind
        for windows in (asked, labelled)
        for kind in _kinds_in_all(windows[: limits.windows], limits)
        if len(windows) >= limits.windows and kind in MENDABLE
    }
    reasons = [_reason(breach, lasting, limits) for breach in newest]
    state: State = "retrain" if lasting else "watch" if newest else "ok"
    return Decision(state, (*reasons, *_too_few(asked, labelled, limits)))


def breaches(window: Window, limits: Monitoring) -> tuple[Breach, ...]:
    """Every limit that a window exceeds; what has too few rows, or labels, exceeds none."""
    found: list[Breach] = []
    if window.rows >= limits.rows:
        found += [*_shifted(window, limits), *_damaged(window, limits)]
    if window.labels >= limits.rows:
        found += _worse(window.qualities, limits)
    return tuple(found)


def drifting(features: Sequence[Column], limits: Monitoring) -> list[Column]:
    """The features that drift beyond the limit, the most first; those to be ignored left out."""
    judged = [f for f in features if not ignored(f.name, limits)]
    return _over(judged, lambda f: f.drift or 0.0, limits.drift)


def ignored(name: str, limits: Monitoring) -> bool:
    """Whether a feature's drift is no news: `monitoring.ignore` has patterns such as `*_7d`."""
    return any(fnmatchcase(name, pattern) for pattern in limits.ignore)


def _newest(windows: Sequence[Window], limits: Monitoring) -> tuple[Breach, ...]:
    return breaches(windows[0], limits) if windows else ()


def _kinds_in_all(windows: Sequence[Window], limits: Monitoring) -> set[Kind]:
    found = [{breach.kind for breach in breaches(window, limits)} for window in windows]
    return set.intersection(*found) if found else set()


def _reason(breach: Breach, lasting: set[Kind], limits: Monitoring) -> str:
    if breach.kind not in lasting or limits.windows == 1:
        return breach.reason
    return f"{breach.reason}; {limits.windows} windows in a row"


def _too_few(
    asked: Sequence[Window], labelled: Sequence[Window], limits: Monitoring
) -> Iterator[str]:
    rows = asked[0].rows if asked else 0
    if rows < limits.rows:
        yield f"{rows} of {limits.rows} rows: too few to judge drift"
    if labelled and labelled[0].labels < limits.rows:
        yield f"{labelled[0].labels} of {limits.rows} labels: too few to judge performance"


def _shifted(window: Window, limits: Monitoring) -> Iterator[Breach]:
    judged = [f for f in window.features if not ignored(f.name, limits)]
    drifted = drifting(judged, limits)
    share = len(drifted) / max(len(judged), 1)
    if share > limits.share:
        said = f"{len(drifted)} of {len(judged)} features drift ({share:.0%})"
        yield Breach("share", f"{said}, limit {limits.share:.0%}")
    scores = _over(window.scores, lambda s: s.drift or 0.0, limits.scores)
    if scores:
        named = _named(scores, lambda s: f"{s.drift:.2f}")
        yield Breach("scores", f"predictions drift: {named}, limit {limits.scores:g}")
    if drifted:
        named = _named(drifted, lambda f: f"{f.drift:.2f}")
        yield Breach("drift", f"features drift: {named}, limit {limits.drift:g}")


def _damaged(window: Window, limits: Monitoring) -> Iterator[Breach]:
    missing = _over(window.features, lambda f: f.missing_rise, limits.missing)
    if missing:
        named = _named(missing, lambda f: f"{f.missing:.0%}, was {f.missing_before:.0%}")
        yield Breach("missing", f"values are missing: {named}, limit +{limits.missing:.0%}")
    unseen = _over(window.features, lambda f: f.unseen, limits.unseen)
    if unseen:
        named = _named(unseen, lambda f: f"{f.unseen:.1%}")
        yield Breach("unseen", f"categories never seen: {named}, limit {limits.unseen:.1%}")


def _worse(qualities: Sequence[Quality], limits: Monitoring) -> Iterator[Breach]:
    for quality in qualities:
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


def _named(columns: Sequence[Column], value: Callable[[Column], str]) -> str:
    named = ", ".join(f"{column.name} {value(column)}" for column in columns[:NAMED])
    more = len(columns) - NAMED
    return f"{named} and {more} more" if more > 0 else named
