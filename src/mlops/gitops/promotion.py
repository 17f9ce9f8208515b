"""Release, promote, roll back: a commit that changes a pin, on a branch, as a pull request.

Nothing is deployed by these: `reconcile` deploys what is merged.
"""

from __future__ import annotations

from pathlib import Path

from mlops.base.errors import UserError
from mlops.contract.stages import RECORD
from mlops.deploy import manifest
from mlops.forge import git
from mlops.forge.protocol import Forge
from mlops.gitops import pins, reconcile, verdict
from mlops.gitops.pins import accepted, locked, manifest_at, of_workspace, only_pins_changed
from mlops.gitops.proposal import Proposal, propose, withdraw
from mlops.registry.pin import Pin


def release(root: Path, environment: str, forge: Forge) -> str:
    """Propose the workspace's bundle for an environment; the outcome in a line.

    Raises UserError without an accepted verdict on these very bytes, with uncommitted changes,
    or for a bundle that is not registered.
    """
    before = manifest.load(root, environment).pin
    if before and (before.digest, before.evidence) == accepted(root):
        withdraw(root, f"release/{environment}", forge)
        return f"{environment} pins {before.short} already; nothing to release"
    pin = of_workspace(root)
    why, lock = f"{verdict.load(root).line.capitalize()}.", (root / RECORD).read_bytes()
    return propose(root, _repin(root, pin.commit, environment, pin, "release", why, lock), forge)


def unreleased(root: Path, environment: str, since: str) -> bool:
    """Whether main may make what an environment does not pin.

    It does not when pins alone differ from both the commit `since`, so that nothing which waits
    to be released was overtaken, and the commit that made what is pinned, which the lock names.
    """
    pin = manifest.load(root, environment).pin
    if pin is None or not all(git.exists(root, commit) for commit in (since, pin.commit)):
        return True
    if not (only_pins_changed(root, since) and only_pins_changed(root, pin.commit)):
        return True
    return locked(root) != pin.dvc


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
    return propose(root, _repin(root, main, target, wanted.pin, "promote", why), forge)


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
    return propose(root, _repin(root, main, environment, pin, "rollback", why), forge)


def _repin(
    root: Path, parent: str, environment: str, pin: Pin, verb: str, why: str, lock: bytes = b""
) -> Proposal:
    """The manifest at a commit with another pin, the lock with it where it is given."""
    before, text = manifest_at(root, parent, environment)
    was = f"before it {before.pin.digest[:12]}" if before.pin else "the first"
    files = {manifest.path(environment): manifest.with_pin(text, pin).encode()}
    what = "Release to" if verb == "release" else verb.capitalize()
    made_by = {
        "bundle": pin.digest, "model": f"{pin.model} version {pin.version}",
        "commit": pin.commit, "data": pin.data, "run": pin.run,
    }  # fmt: skip
    return Proposal(
        branch=f"{verb}/{environment}",
        parent=parent,
        files=files | ({RECORD: lock} if lock else {}),
        title=f"{what} {environment}: {pin.short}, {was}",
        why="\n".join([why, "", *(f"- {name}: {value}" for name, value in made_by.items())]),
    )
