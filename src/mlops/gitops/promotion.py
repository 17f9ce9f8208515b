"""Promote, roll back: a commit that changes a pin, on a branch, as a pull request.

Nothing is deployed by these: `reconcile` deploys what is merged.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from mlops.base.errors import Refused, UserError, one_line
from mlops.deploy import manifest
from mlops.forge import git
from mlops.forge.protocol import Forge
from mlops.gitops import pins
from mlops.gitops.pins import manifest_at
from mlops.gitops.proposal import propose, repin
from mlops.gitops.ripeness import Condition, Monitor, conditions


def promote(
    root: Path, source: str, target: str, forge: Forge, monitored: Monitor,
    because: str = "", ripe: bool = False,
) -> str:  # fmt: skip
    """Propose for `target` what `source` pins and runs; the outcome in a line.

    `because` is the reason to do it although it is not ripe; with `ripe` that is an outcome too.
    Raises Refused with all that the conditions of `target` miss, and UserError when `source` is
    not where its versions come from, or pins nothing.
    """
    main = git.tip(root)
    (wanted, _), (into, _) = (manifest_at(root, main, name) for name in (source, target))
    asked, pin, because = into.promotion, wanted.pin, one_line(because)
    if asked.source not in (None, source):
        place = f"{manifest.path(target)}: promotion.from"
        raise UserError(f"{place}: found {asked.source!r}, and SOURCE is {source!r}")
    if pin is None:
        line = f"{manifest.path(source)}: pins nothing; there is nothing to promote"
        if ripe:
            return line
        raise UserError(line)
    if into.pin == pin:
        return f"{target} pins {pin.short} already; nothing to promote"
    try:
        found = conditions(root, main, source, wanted, asked, monitored)
    except UserError as error:
        if not because:
            raise
        found = [Condition(False, f"not judged: {error}")]
    missing = "; ".join(condition.text for condition in found if not condition.met)
    if missing and not because:
        line = f"{target}: {pin.digest[:12]} is not ripe: {missing}"
        if ripe:
            return line
        raise Refused(line)
    trailers = [f"Verified: {condition.text}" for condition in found if condition.met]
    if because:
        trailers.append(f"Overridden: {because}" + (f" (not met: {missing})" if missing else ""))
    why = f"As {source} pins it." if missing else f"It runs in {source} now."
    proposal = repin(root, main, target, pin, "promote", why, trailers=trailers)
    reason = f"Overridden: {because}" if because else ""
    return propose(root, replace(proposal, reason=reason), forge)


def rollback(root: Path, environment: str, to: str | None, forge: Forge) -> str:
    """Propose the pin that an environment had before, or had at a commit; the outcome in a line.

    Raises UserError when there is no such pin.
    """
    main, file = git.tip(root), manifest.path(environment)
    current = manifest_at(root, main, environment)[0].pin
    if to is None:
        for change, pin in pins.history(root, main, environment):
            if pin and (current is None or pin.digest != current.digest):
                to = change.commit[:12]
                break
        else:
            raise UserError(f"{file}: has pinned nothing else before")
    elif not git.is_ancestor(root, git.commit(root, to), main):
        raise UserError(f"--to {to}: not a commit of the main line")
    else:
        pin = manifest_at(root, to, environment)[0].pin
    if pin is None:
        raise UserError(f"{file}: pinned nothing at {to}")
    if pin == current:
        return f"{environment} pins {pin.short} already; nothing to roll back"
    why = f"As it was at {to}."
    return propose(root, repin(root, main, environment, pin, "rollback", why), forge)
