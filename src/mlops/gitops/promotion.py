"""Promote, roll back: a commit that changes a pin, on a branch, as a pull request.

Nothing is deployed by these: `reconcile` deploys what is merged.
"""

from __future__ import annotations

from pathlib import Path

from mlops.base.errors import UserError
from mlops.deploy import manifest
from mlops.forge import git
from mlops.forge.protocol import Forge
from mlops.gitops import pins, reconcile
from mlops.gitops.pins import manifest_at
from mlops.gitops.proposal import propose, repin


def promote(root: Path, source: str, target: str, forge: Forge) -> str:
    """Propose for `target` what `source` pins and runs; the outcome in a line.

    Raises UserError when `source` pins nothing, or runs other bytes than it pins.
    """
    main = git.tip(root)
    wanted, _ = manifest_at(root, main, source)
    if wanted.pin is None:
        raise UserError(f"{manifest.path(source)}: pins nothing; there is nothing to promote")
    running = reconcile.running(wanted, root, source)
    if running.traffic != {wanted.pin.digest: 100}:
        raise UserError(
            f"{source}: runs {reconcile.shown(running)}, pinned is {wanted.pin.digest[:12]}; "
            f"`mlops reconcile {source}` first"
        )
    if manifest_at(root, main, target)[0].pin == wanted.pin:
        return f"{target} pins {wanted.pin.short} already; nothing to promote"
    why = f"It runs in {source} now."
    return propose(root, repin(root, main, target, wanted.pin, "promote", why), forge)


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
