"""Assess one environment: its prediction logs against its pinned bundle.

Nothing is kept from run to run: the windows are computed from the logs every time, so that a run
that is repeated, killed or concurrent with another changes nothing.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Iterator
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from mlops.base.errors import UserError, nearest
from mlops.base.files import whole_folder, write_json
from mlops.contract import bundle
from mlops.contract.bundle import Card
from mlops.contract.paths import BUNDLE
from mlops.monitoring.assessment import Assessment
from mlops.monitoring.decision import decide
from mlops.monitoring.params import Monitoring, Params
from mlops.monitoring.window import Window, bounds

if TYPE_CHECKING:
    import duckdb

    from mlops.monitoring.performance import Evidence

FOLDER = Path("monitoring")
DECISION = "decision.json"
SUMMARY = "summary.md"
REPORT = "report.html"
METRICS = "metrics.prom"


def run(params: Params, root: Path, environment: str, now: datetime | None = None) -> Assessment:
    """Judge the newest windows up to `now` (with a time zone), and write the assessment's files.

    Raises UserError when nothing is pinned, its bundle is unavailable, or logs or labels are
    invalid.
    """
    from mlops.monitoring import prometheus

    moment = now or datetime.now(UTC)
    if moment.tzinfo is None:
        raise ValueError(f"now: found {moment} without a time zone, expected one")
    assessment = _assess(params.monitoring, root, environment, moment.astimezone(UTC))
    _write(assessment, params.monitoring)
    prometheus.push(assessment)
    return assessment


def _assess(limits: Monitoring, root: Path, environment: str, now: datetime) -> Assessment:
    from mlops.deploy import manifest
    from mlops.monitoring import logs, performance
    from mlops.registry import store

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
        requests = tuple(_request_windows(database, limits, now, workspace, card))
        labelled: tuple[Window, ...] = ()
        if limits.labels is not None:
            place = limits.labels.replace("{environment}", environment)
            labelled = tuple(_labelled_windows(database, limits, place, root, card, evidence))
    decision = decide(requests, labelled, limits)
    notes = (*lines.notes, *_unjudged(limits, evidence, labelled))
    return Assessment(
        environment, pin.short, pin.digest, now, decision.state, decision.reasons, notes,
        asdict(lines), requests, labelled, root / FOLDER / environment,
    )  # fmt: skip


def _check_ignored(limits: Monitoring, card: Card) -> None:
    names = [feature.name for feature in card.inputs]
    for pattern in limits.ignore:
        if not fnmatch.filter(names, pattern):
            hint = nearest(pattern, names) or f"; known: {', '.join(names)}"
            raise UserError(f"params.yaml: monitoring.ignore: found {pattern!r}{hint}")


def _request_windows(
    database: duckdb.DuckDBPyConnection,
    limits: Monitoring,
    now: datetime,
    workspace: Path,
    card: Card,
) -> Iterator[Window]:
    """The windows that end now; one with too few rows is only counted."""
    from mlops.monitoring import drift

    reference = None
    for since, until in bounds(now, limits.hours, limits.windows):
        where = _within(since, until)
        window = Window(since, until, rows=_count(database, "answers", where))
        if window.rows >= limits.rows:
            reference = reference or drift.reference(workspace / BUNDLE, card)
            features, scores = drift.measure(database, where, window.rows, reference)
            window = replace(window, features=features, scores=scores)
        yield window


def _labelled_windows(
    database: duckdb.DuckDBPyConnection,
    limits: Monitoring,
    place: str,
    root: Path,
    card: Card,
    evidence: Evidence,
) -> Iterator[Window]:
    """The windows that end with the newest labelled row: labels arrive late."""
    from mlops.monitoring import labels, performance

    labels.read(database, place, root, card)
    newest = database.execute("SELECT max(time) FROM labelled").fetchone()
    if newest is None or newest[0] is None:
        return
    end = datetime.fromtimestamp(newest[0], UTC)
    for since, until in bounds(end, limits.hours, limits.windows):
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
    row = database.execute(f"SELECT count(*) FROM {table} WHERE {where}").fetchone()
    assert row is not None
    return int(row[0])


def _write(assessment: Assessment, limits: Monitoring) -> None:
    from mlops.monitoring import page, prometheus, summary

    content = asdict(assessment)
    del content["folder"]
    with whole_folder(assessment.folder) as folder:
        # msgspec turns times into text and NaN into null.
        write_json(folder / DECISION, msgspec.json.decode(msgspec.json.encode(content)))
        (folder / SUMMARY).write_text(summary.markdown(assessment, limits), encoding="utf-8")
        (folder / REPORT).write_text(page.render(assessment, limits), encoding="utf-8")
        (folder / METRICS).write_bytes(prometheus.text(assessment))
