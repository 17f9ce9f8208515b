"""What is where, and what was where when: `mlops status` and `mlops history`."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mlops.base.errors import UserError
from mlops.contract.params import Params
from mlops.contract.paths import RAW
from mlops.data import fingerprint
from mlops.data.ingest import Ingested
from mlops.deploy import manifest
from mlops.gitops import pins, reconcile

Row = tuple[str, ...]
HEAD: Row = ("environment", "pinned", "running", "registry alias", "since", "address", "")
NOTHING = "-"


def table(rows: Sequence[Row]) -> str:
    """Rows as aligned columns, the first one their heads."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)) for row in rows]
    return "\n".join(line.rstrip() for line in lines)


def status(params: Params, root: Path) -> list[Row]:
    """A row for each environment: pinned, running, registry alias, age, address, what differs."""
    return [HEAD, *(_row(params, root, name) for name in manifest.names(root))]


def data(params: Any, root: Path) -> str:
    """Whether the raw tables here are of the state that their source is in."""
    place = f"data: {params.data.location}"
    try:
        read, now = Ingested.load(root / RAW).source, fingerprint.of_source(params)
    except UserError as error:
        return f"data: {error}"
    changed = [name for name in sorted(read | now) if read.get(name) != now.get(name)]
    if not changed:
        return f"{place}, as ingested ({len(read)} files)"
    more = f" and {len(changed) - 1} more" if len(changed) > 1 else ""
    return f"{place}, changed since it was ingested: {changed[0]}{more}"


def _row(params: Params, root: Path, environment: str) -> Row:
    wanted = manifest.load(root, environment)
    pinned = wanted.pin.digest if wanted.pin else None
    running = reconcile.running(wanted, root, environment)
    try:
        alias = reconcile.alias(wanted, params, root, environment)
        mirrored = alias.digest if alias else None
        version = f"version {alias.number}" if alias else NOTHING
    except UserError:
        mirrored, version = None, "no answer"
    differs = running.traffic != ({pinned: 100} if pinned else {}) or mirrored != pinned
    remarks = {
        f"differs: mlops reconcile {environment}": differs,
        f"does not answer: mlops reconcile {environment}": running.answers == "no",
        # A note of another bundle says nothing of an environment that is as pinned.
        running.note: bool(running.note) and differs,
    }
    return (
        environment,
        pinned[:12] if pinned else NOTHING,
        reconcile.shown(running) if running.traffic else NOTHING,
        version,
        _age(root, environment) if pinned else NOTHING,
        running.address or NOTHING,
        "; ".join(remark for remark, applies in remarks.items() if applies),
    )


def _age(root: Path, environment: str) -> str:
    rows = history(root, "HEAD", environment)
    if len(rows) < 2:
        return NOTHING
    since = dt.date.fromisoformat(rows[1][0])
    return f"{since} ({(dt.datetime.now(tz=dt.UTC).date() - since).days} days)"


def history(root: Path, ref: str, environment: str) -> list[Row]:
    """What was pinned from when on, newest first, from Git alone; the first row is the heads."""
    rows: list[Row] = []
    for change, pin in reversed(list(pins.history(root, ref, environment))):
        digest = pin.digest[:12] if pin else NOTHING
        model = f"{pin.model} version {pin.version}" if pin else NOTHING
        if not rows or rows[0][1] != digest:
            commit = change.commit[:12]
            rows.insert(0, (change.day, digest, model, commit, change.author, change.subject))
    return [("since", "pinned", "model", "commit", "by", "why"), *rows]
