"""Assess one environment: its prediction logs against its pinned bundle.

Nothing is kept from run to run: the windows are computed from the logs every time, so that a run
that is repeated, killed or concurrent with another changes nothing.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from mlops.base.errors import UserError, nearest
from mlops.base.files import whole_folder, write_json
from mlops.contract import bundle
from mlops.contract.bundle import Card
from mlops.contract.paths import BUNDLE
from mlops.monitoring.assessment import Assessment, Window
from mlops.monitoring.decision import decide
from mlops.monitoring.params import Monitoring, Params

if TYPE_CHECKING:
    import duckdb

FOLDER = Path("monitoring")
DECISION = "decision.json"
SUMMARY = "summary.md"
REPORT = "report.html"
METRICS = "metrics.prom"
WRITTEN = r"decision\.json|summary\.md|report\.html|metrics\.prom"


class NothingYet(UserError):
    """Nothing is pinned or deployed: there is nothing to watch yet."""


def run(params: Params, root: Path, environment: str, now: datetime | None = None) -> Assessment:
    """Judge the newest windows up to `now` (with a time zone), and write the assessment's files.

    Raises NothingYet before anything is pinned and deployed, and UserError when the bundle is
    unavailable, or logs or labels are invalid.
    """
    from mlops.monitoring import prometheus

    moment = (now or datetime.now(UTC)).astimezone(UTC)
    assessment = _assess(params, root, environment, moment)
    _write(assessment, params.monitoring)
    prometheus.push(assessment)
    return assessment


def outcome(
    params: Params, root: Path, environment: str, now: datetime | None = None
) -> tuple[str, str]:
    """The digest that was assessed now, and `ok`, or why it is not; "" before there is any."""
    try:
        assessment = run(params, root, environment, now)
    except NothingYet as reason:
        return "", str(reason)
    # Of too few rows nothing is known, nor of outcomes that could not be read.
    is_ok = assessment.state == "ok" and assessment.windows[0].features and not assessment.unread
    return assessment.digest, "ok" if is_ok else assessment.line


def _assess(params: Params, root: Path, environment: str, now: datetime) -> Assessment:
    from mlops import deploy
    from mlops.deploy import manifest
    from mlops.deploy.target import Endpoint
    from mlops.gitops import reconcile
    from mlops.monitoring import drift, labels, logs, performance, source
    from mlops.monitoring.answers import Asked
    from mlops.registry import store

    limits = params.monitoring
    wanted = manifest.load(root, environment)
    pin = wanted.pin
    if pin is None:
        raise NothingYet(f"{manifest.path(environment)}: pins nothing to watch")
    workspace = store.fetch(pin, root)
    card = bundle.read_card(workspace / BUNDLE)
    _check_ignored(limits, card)
    logs_at, labels_at = (
        (place or "").replace("{environment}", environment)
        for place in (limits.logs, limits.labels)
    )
    evidence = performance.evidence(workspace)
    labelled: list[Window] = []
    with logs.database() as database:
        try:
            asked = Asked(logs_at, root, card, pin, now)
            lines = logs.read(database, limits.source, asked)
        except UserError as error:
            if reconcile.running(wanted, root, environment).traffic:
                raise
            raise NothingYet(str(error)) from None
        reference = cache(lambda: drift.reference(workspace / BUNDLE, card))

        def measure(where: str, rows: int) -> dict[str, Any]:
            return drift.measure(database, where, rows, reference())

        def qualities(where: str, rows: int) -> dict[str, Any]:
            return performance.measure(database, where, card, evidence)

        requests = _windows(database, "answers", "rows", now, limits, measure)
        known = source.read(database, params, root, environment, card, wanted.serving)
        newest = labels.read(database, labels_at, root, card) if labels_at else known.newest
        # Labels arrive late: the windows end with the newest one.
        if newest:
            labelled = _windows(database, "labelled", "labels", newest, limits, qualities)
    state, reasons = decide(requests, labelled, limits)
    notes = [*logs.left_out(lines), *known.unread, *known.notes]
    if (labels_at or known.keyed) and not (labelled or known.unread):
        notes.append("no label fits an answer yet: performance not judged")
    if labelled and not evidence:
        notes.append("the pin's evidence could not be had: performance not judged")
    health = None
    # The service's own metrics are scraped.
    if limits.source != "service":
        with source.noted(notes, "the endpoint's metrics not read"):
            endpoint = Endpoint(environment, wanted.endpoint, root)
            health = deploy.named(wanted.target).health(endpoint, pin.digest)
    return Assessment(
        environment=environment,
        model=pin.short,
        digest=pin.digest,
        now=now,
        state=state,
        reasons=reasons,
        notes=tuple(notes),
        lines=lines,
        windows=tuple(requests),
        labelled=tuple(labelled),
        folder=root / FOLDER / environment,
        published=known.published,
        unread="; ".join(known.unread),
        health=health,
    )


def _check_ignored(limits: Monitoring, card: Card) -> None:
    names = [feature.name for feature in card.inputs]
    for pattern in limits.ignore:
        if not fnmatch.filter(names, pattern):
            hint = nearest(pattern, names) or f"; known: {', '.join(names)}"
            raise UserError(f"params.yaml: monitoring.ignore: found {pattern!r}{hint}")


def _windows(
    database: duckdb.DuckDBPyConnection, table: str, counted: str, newest: datetime,
    limits: Monitoring, measure: Callable[[str, int], dict[str, Any]],
) -> list[Window]:  # fmt: skip
    """The windows that end with `newest`; those with enough rows, counted so, are measured."""
    windows, step = [], timedelta(hours=limits.hours)
    for back in range(limits.windows):
        since, until = newest - (back + 1) * step, newest - back * step
        where = f"time > {since.timestamp()!r} AND time <= {until.timestamp()!r}"
        ((rows,),) = database.execute(f"SELECT count(*) FROM {table} WHERE {where}").fetchall()
        measured = measure(where, rows) if rows >= limits.rows else {}
        windows.append(Window(since, until, **{counted: rows}, **measured))
    return windows


def _write(assessment: Assessment, limits: Monitoring) -> None:
    from mlops.monitoring import prometheus, report

    content = asdict(assessment)
    del content["folder"]
    with whole_folder(assessment.folder, WRITTEN) as folder:
        # msgspec turns times into text and NaN into null.
        write_json(folder / DECISION, msgspec.json.decode(msgspec.json.encode(content)))
        (folder / SUMMARY).write_text(report.markdown(assessment, limits), encoding="utf-8")
        (folder / REPORT).write_text(report.page(assessment, limits), encoding="utf-8")
        (folder / METRICS).write_bytes(prometheus.text(assessment))
