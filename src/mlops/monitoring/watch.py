"""Watch one environment: its logs against its pinned bundle, and what follows from that.

Nothing is kept from run to run: the windows are cut anew from the logs every time, so that a run
that is repeated, killed or beside another changes nothing.
"""

from __future__ import annotations

import fnmatch
import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlops.base.errors import UserError, nearest
from mlops.base.files import whole_folder, write_json
from mlops.contract import bundle
from mlops.contract.bundle import Card
from mlops.contract.paths import BUNDLE
from mlops.monitoring.decision import State, decide
from mlops.monitoring.params import Monitoring, Params
from mlops.monitoring.window import Window, cut

if TYPE_CHECKING:
    import duckdb

    from mlops.monitoring.performance import Evidence

FOLDER = Path("monitoring")
DECISION = "decision.json"
SUMMARY = "summary.md"
REPORT = "report.html"
METRICS = "metrics.prom"


@dataclass(frozen=True)
class Watched:
    """What was seen of an environment, and what follows; the files about it lie in `folder`.

    `windows` are those of requests, `labelled` those of rows whose labels are known; both newest
    first. `notes` say what was left out, and why.
    """

    environment: str
    model: str
    digest: str
    now: datetime
    state: State
    reasons: tuple[str, ...]
    notes: tuple[str, ...]
    lines: dict[str, int]
    windows: tuple[Window, ...]
    labelled: tuple[Window, ...]
    folder: Path

    @property
    def line(self) -> str:
        """What came out, for the screen."""
        said = "; ".join((*self.reasons, *self.notes)) or f"{self.windows[0].rows:,} rows judged"
        return f"{self.environment} {self.digest[:12]}: {self.state}: {said}"


def run(params: Params, root: Path, environment: str, now: datetime | None = None) -> Watched:
    """Judge the newest windows up to `now` (with a time zone), and write what was seen.

    Raises UserError when nothing is pinned, its bundle can't be had, or logs or labels are not
    what they should be.
    """
    from mlops.monitoring import prometheus

    moment = now or datetime.now(UTC)
    if moment.tzinfo is None:
        raise ValueError(f"now: found {moment} without a time zone, expected one")
    watched = _watched(params, root, environment, moment.astimezone(UTC))
    _write(watched, params.monitoring)
    prometheus.push(watched)
    return watched


def _watched(params: Params, root: Path, environment: str, now: datetime) -> Watched:
    from mlops.deploy import manifest
    from mlops.monitoring import logs, performance
    from mlops.registry import store

    limits = params.monitoring
    pin = manifest.load(root, environment).pin
    if pin is None:
        raise UserError(f"{manifest.path(environment)}: pins nothing to watch")
    workspace = store.fetch(pin, root)
    card = bundle.read_card(workspace / BUNDLE)
    _check_ignored(limits, card)
    evidence = performance.evidence(workspace)
    with logs.database() as database:
        place = limits.logs.replace("{environment}", environment)
        lines = logs.read(database, place, root, (card, pin.digest), now)
        asked = tuple(_asked(database, limits, now, workspace, card))
        labelled = tuple(_labelled(database, limits, root, environment, card, evidence))
    decision = decide(asked, labelled, limits)
    notes = (*lines.notes, *_unjudged(limits, evidence, labelled))
    return Watched(
        environment, pin.short, pin.digest, now, decision.state, decision.reasons, notes,
        asdict(lines), asked, labelled, root / FOLDER / environment,
    )  # fmt: skip


def _check_ignored(limits: Monitoring, card: Card) -> None:
    names = [put.name for put in card.inputs]
    for pattern in limits.ignore:
        if not fnmatch.filter(names, pattern):
            hint = nearest(pattern, names) or f"; known: {', '.join(names)}"
            raise UserError(f"params.yaml: monitoring.ignore: found {pattern!r}{hint}")


def _asked(
    database: duckdb.DuckDBPyConnection,
    limits: Monitoring,
    now: datetime,
    workspace: Path,
    card: Card,
) -> Iterator[Window]:
    """The windows that end now; what has too few rows is only counted."""
    from mlops.monitoring import drift

    reference = None
    for since, until in cut(now, limits.hours, limits.windows):
        where = _within(since, until)
        window = Window(since, until, rows=_count(database, "answers", where))
        if window.rows >= limits.rows:
            reference = reference or drift.reference(workspace / BUNDLE, card)
            features, scores = drift.measure(database, where, window.rows, reference)
            window = replace(window, features=features, scores=scores)
        yield window


def _labelled(
    database: duckdb.DuckDBPyConnection,
    limits: Monitoring,
    root: Path,
    environment: str,
    card: Card,
    evidence: Evidence,
) -> Iterator[Window]:
    """The windows that end with the newest row whose label is known: labels come late."""
    from mlops.monitoring import labels, performance

    if limits.labels is None:
        return
    place = limits.labels.replace("{environment}", environment)
    labels.read(database, place, root, card)
    newest = database.execute("SELECT max(time) FROM labelled").fetchone()
    if newest is None or newest[0] is None:
        return
    end = datetime.fromtimestamp(newest[0], UTC)
    for since, until in cut(end, limits.hours, limits.windows):
        where = _within(since, until)
        window = Window(since, until, labels=_count(database, "labelled", where))
        if window.labels >= limits.rows:
            measured = performance.measure(database, where, card, evidence)
            window = replace(window, qualities=measured)
        yield window


def _unjudged(
    limits: Monitoring, evidence: Evidence, labelled: tuple[Window, ...]
) -> Iterator[str]:
    if limits.labels is not None and not labelled:
        yield "no label fits an answer yet: performance not judged"
    if labelled and not evidence:
        yield "the pin's evidence could not be had: performance not judged"


def _within(since: datetime, until: datetime) -> str:
    return f"time > {since.timestamp()!r} AND time <= {until.timestamp()!r}"


def _count(database: duckdb.DuckDBPyConnection, table: str, where: str) -> int:
    found = database.execute(f"SELECT count(*) FROM {table} WHERE {where}").fetchone()
    assert found is not None
    return int(found[0])


def _write(watched: Watched, limits: Monitoring) -> None:
    from mlops.monitoring import page, prometheus, summary

    with whole_folder(watched.folder) as folder:
        write_json(folder / DECISION, _content(watched))
        (folder / SUMMARY).write_text(summary.markdown(watched, limits), encoding="utf-8")
        (folder / REPORT).write_text(page.render(watched, limits), encoding="utf-8")
        (folder / METRICS).write_bytes(prometheus.text(watched))


def _content(watched: Watched) -> dict[str, Any]:
    content = asdict(watched)
    del content["folder"]
    plain: dict[str, Any] = _plain(content)
    return plain


def _plain(value: Any) -> Any:
    """As JSON has it: times as text, no NaN."""
    if isinstance(value, dict):
        return {key: _plain(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
