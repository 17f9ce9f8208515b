"""What is where, and what was where when: `mlops status` and `mlops history`."""

from __future__ import annotations

import datetime as dt
import re
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from mlops.base.errors import UserError
from mlops.contract.params import Params
from mlops.contract.paths import RAW
from mlops.data import fingerprint
from mlops.data.ingest import Ingested
from mlops.deploy import manifest
from mlops.deploy.target import Running
from mlops.forge import git
from mlops.forge.protocol import Forge
from mlops.gitops import pins, reconcile
from mlops.registry.pin import Pin
from mlops.serving import stores

Row = tuple[str, ...]
HEAD: Row = ("environment", "pinned", "running", "registry alias", "since", "address", "")
HISTORY: Row = (
    "since", "pinned", "model", "commit", "by", "why", "approved by", "took", "verified",
)  # fmt: skip
TRAILER = re.compile(r"^(Verified|Overridden|Reviewed-by): *(.*\S)", re.MULTILINE)
NOTHING, NO_ANSWER = "-", "no answer"


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


def features(root: Path) -> Iterator[str]:
    """A line for each environment with features by key: of how many keys, and how old."""
    for name in manifest.names(root):
        serving, place = manifest.load(root, name).serving, f"features of {name}"
        try:
            found = stores.store(serving.store, "serving.store").about(serving.place(name, root))
        except UserError as error:
            yield f"{place}: {error}"
            continue
        if found:
            hours = (time.time() - found.made) / 3600
            stale = f", refused after {serving.stale_after:g}" * (hours > serving.stale_after)
            yield f"{place}: {found.keys:,} keys, {hours:.1f} hours old{stale}"
        elif serving.features:
            yield f"{place}: none published: mlops features --environment {name}"


def _row(params: Params, root: Path, environment: str) -> Row:
    wanted = manifest.load(root, environment)
    pinned = wanted.pin.digest if wanted.pin else None
    remarks: dict[str, bool] = {}
    try:
        running = reconcile.running(wanted, root, environment)
        shown = reconcile.shown(running) if running.traffic else NOTHING
    except UserError as error:
        running, shown, remarks[str(error)] = Running({}), NO_ANSWER, True
    mirrored, version = pinned, NOTHING
    try:
        if reconcile.keeps_alias(wanted):
            alias = reconcile.alias(wanted, params, root, environment)
            mirrored = alias.digest if alias else None
            version = f"version {alias.number}" if alias else NOTHING
    except UserError as error:
        mirrored, version, remarks[str(error)] = None, NO_ANSWER, True
    differs = running.traffic != ({pinned: 100} if pinned else {}) or mirrored != pinned
    differs = differs or bool(running.outdated)
    silent = reconcile.SILENT.get(running.answers, "")
    remarks |= {
        f"differs: mlops reconcile {environment}": differs,
        f"{silent}: mlops reconcile {environment}": bool(silent),
        # A note of another bundle says nothing of an environment that is as pinned.
        running.note: bool(running.note) and differs,
    }
    return (
        environment,
        pinned[:12] if pinned else NOTHING,
        shown,
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


def history(root: Path, ref: str, environment: str, forge: Forge | None = None) -> list[Row]:
    """What was pinned from when on, newest first; the first row is the heads.

    From Git alone, but for the approvals and times that only the forge knows.
    """
    moves: list[tuple[git.Change, Pin | None]] = []
    for change, pin in reversed(list(pins.history(root, ref, environment))):
        if not moves or _digest(moves[0][1]) != _digest(pin):
            moves.insert(0, (change, pin))
    if not moves:
        # One that never was is not one that has pinned nothing.
        manifest.load(root, environment)
    rows = [HISTORY]
    for change, pin in moves:
        model = f"{pin.model} version {pin.version}" if pin else NOTHING
        *known, error = _proposed(root, change, forge)
        # A forge that does not answer once is not asked again.
        forge = None if error else forge
        commit = change.commit[:12]
        rows.append(
            (change.day, _digest(pin), model, commit, change.author, change.subject, *known)
        )
    return rows


def _digest(pin: Pin | None) -> str:
    return pin.digest[:12] if pin else NOTHING


def _proposed(root: Path, change: git.Change, forge: Forge | None) -> tuple[str, str, str, bool]:
    """Who approved a change, how long it was open, what was verified; whether the forge failed."""
    brought = git.brought(root, change.commit)
    noted = [match.groups() for _, text in brought for match in TRAILER.finditer(text)]
    approved = [text for name, text in noted if name == "Reviewed-by"]
    verified = [f"{name.lower()}: {text}" if name == "Overridden" else text
                for name, text in noted if name != "Reviewed-by"]  # fmt: skip
    # The author's time of a squashed commit is that of the merge.
    opened, merged, failed = min(time for time, _ in brought), change.time, False
    try:
        if forge and (merge := forge.merged(change.commit)):
            approved = list(merge.approved_by)
            opened, merged = int(merge.opened.timestamp()), int(merge.merged.timestamp())
    except UserError as error:
        approved, failed = [f"not known: {error}"], True
    took = str(dt.timedelta(seconds=merged - opened)) if opened < merged else NOTHING
    return ", ".join(approved) or NOTHING, took, "; ".join(verified) or NOTHING, failed
