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
from mlops.gitops import pins, reconcile
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
    """A row for each environment: pinned, actually running, registry alias, age, agreement."""
    return [HEAD, *(_row(params, root, name) for name in manifest.names(root))]


def _row(params: Params, root: Path, environment: str) -> Row:
    wanted = manifest.load(root, environment)
    endpoint = reconcile.endpoint_of(wanted, root, environment)
    found = deploy.named(wanted.target).current(endpoint)
    try:
        alias = aliases.alias(reconcile.model_of(wanted, params), root, environment)
        mirrored = alias.digest if alias else None
        named = f"version {alias.number}" if alias else NOTHING
    except UserError:
        mirrored, named = None, "no answer"
    pinned = wanted.pin.digest if wanted.pin else None
    agree = found.traffic == ({pinned: 100} if pinned else {}) and mirrored == pinned
    return (
        environment,
        _short(pinned),
        reconcile.shown(found) if found.traffic else NOTHING,
        named,
        _age(root, environment),
        "; ".join(_remarks(environment, found, agree)),
    )


def _remarks(environment: str, found: Running, agree: bool) -> Iterator[str]:
    if not agree:
        yield f"differs: mlops reconcile {environment}"
    if found.answers == "no":
        yield f"does not answer: mlops reconcile {environment}"
    if found.note:
        yield found.note


def _short(digest: str | None) -> str:
    return digest[:12] if digest else NOTHING


def _age(root: Path, environment: str) -> str:
    pins = history(root, "HEAD", environment)
    if len(pins) < 2:
        return NOTHING
    since = dt.date.fromisoformat(pins[1][0])
    days = (dt.datetime.now(tz=dt.UTC).date() - since).days
    return f"{since} ({days} days)"


def history(root: Path, ref: str, environment: str) -> list[Row]:
    """What was pinned from when on, newest first, from Git alone; the first row is the heads."""
    rows: list[Row] = []
    for change in reversed(git.changes(root, ref, manifest.path(environment))):
        pin = pins.at(root, change.commit, environment)
        version = f"{pin.model} version {pin.version}" if pin else NOTHING
        row = (change.day, _short(pin.digest if pin else None), version, change.commit[:12],
               change.author, change.subject)  # fmt: skip
        if not rows or rows[0][1] != row[1]:
            rows.insert(0, row)
    return [("since", "pinned", "model", "commit", "by", "why"), *rows]


def changed(root: Path, since: str) -> list[str]:
    """The environments whose manifest differs from the one at `since`; all when it is unknown."""
    if not git.exists(root, since):
        return manifest.names(root)
    return [
        name
        for name in manifest.names(root)
        if git.show(root, since, manifest.path(name)) != (root / manifest.path(name)).read_text()
    ]
