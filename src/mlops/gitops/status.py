"""What is where, and what was where when: `mlops status`, `mlops history`, `mlops changed`."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Sequence
from pathlib import Path

from mlops import deploy
from mlops.base.errors import UserError
from mlops.contract.params import Params
from mlops.deploy import manifest
from mlops.deploy.target import Running
from mlops.forge import git
from mlops.gitops import pin_history, reconcile
from mlops.registry import aliases

Row = tuple[str, ...]
HEAD: Row = ("environment", "pinned", "running", "registry alias", "since", "")
NOTHING = "-"


def table(rows: Sequence[Row]) -> str:
    """Rows as aligned columns, the first one their heads."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)) for row in rows]
    return "\n".join(line.rstrip() for line in lines)


def status(params: Params, root: Path) -> list[Row]:
    """A row for each environment: pinned, running, registry alias, age, what differs."""
    return [HEAD, *(_row(params, root, name) for name in manifest.names(root))]


def _row(params: Params, root: Path, environment: str) -> Row:
    wanted = manifest.load(root, environment)
    pinned = wanted.pin.digest if wanted.pin else None
    running = deploy.named(wanted.target).current(reconcile.endpoint_of(wanted, root, environment))
    try:
        alias = aliases.alias(reconcile.model_of(wanted, params), root, environment)
        mirrored = alias.digest if alias else None
        version = f"version {alias.number}" if alias else NOTHING
    except UserError:
        mirrored, version = None, "no answer"
    agree = running.traffic == ({pinned: 100} if pinned else {}) and mirrored == pinned
    return (
        environment,
        pinned[:12] if pinned else NOTHING,
        reconcile.shown(running) if running.traffic else NOTHING,
        version,
        _age(root, environment),
        "; ".join(_remarks(environment, running, agree)),
    )


def _remarks(environment: str, running: Running, agree: bool) -> Iterator[str]:
    if not agree:
        yield f"differs: mlops reconcile {environment}"
    if running.answers == "no":
        yield f"does not answer: mlops reconcile {environment}"
    if running.note:
        yield running.note


def _age(root: Path, environment: str) -> str:
    rows = history(root, "HEAD", environment)
    if len(rows) < 2:
        return NOTHING
    since = dt.date.fromisoformat(rows[1][0])
    return f"{since} ({(dt.datetime.now(tz=dt.UTC).date() - since).days} days)"


def history(root: Path, ref: str, environment: str) -> list[Row]:
    """What was pinned from when on, newest first, from Git alone; the first row is the heads."""
    rows: list[Row] = []
    for change in reversed(git.changes(root, ref, manifest.path(environment))):
        pin = pin_history.pin_at(root, change.commit, environment)
        digest, version = (
            (pin.digest[:12], f"{pin.model} version {pin.version}") if pin else (NOTHING, NOTHING)
        )
        if not rows or rows[0][1] != digest:
            commit = change.commit[:12]
            rows.insert(0, (change.day, digest, version, commit, change.author, change.subject))
    return [("since", "pinned", "model", "commit", "by", "why"), *rows]


def changed(root: Path, since: str) -> list[str]:
    """The environments whose manifest differs from the one at `since`; all when it is unknown."""
    names = manifest.names(root)
    if not git.exists(root, since):
        return names
    return [
        name
        for name in names
        if git.show(root, since, manifest.path(name)) != (root / manifest.path(name)).read_text()
    ]
