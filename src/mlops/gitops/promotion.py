"""Release, promote, roll back: a commit that changes a pin, on a branch, as a pull request.

Nothing is deployed by these: `reconcile` deploys what is merged.
"""

from __future__ import annotations

from pathlib import Path

from mlops import deploy
from mlops.base.errors import UserError
from mlops.deploy import manifest
from mlops.forge import git
from mlops.forge.protocol import Forge
from mlops.gitops import pin_history, reconcile, verdict
from mlops.gitops.pin_history import LOCK, manifest_at, only_pins_changed
from mlops.gitops.pinning import accepted, locked, of_workspace
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
    proposal = Proposal(
        branch=f"release/{environment}",
        parent=pin.commit,
        files={
            manifest.path(environment): _repinned(root, "HEAD", environment, pin),
            LOCK: (root / LOCK).read_bytes(),
        },
        title=f"Release to {environment}: {_move(pin, before)}",
        why=_explanation(f"{verdict.load(root).line.capitalize()}.", pin),
    )
    return propose(root, proposal, forge)


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
    wanted = manifest_at(root, main, source)
    if wanted.pin is None:
        raise UserError(f"{manifest.path(source)}: pins nothing; there is nothing to promote")
    running = deploy.named(wanted.target).current(reconcile.endpoint_of(wanted, root, source))
    if running.traffic != {wanted.pin.digest: 100}:
        raise UserError(
            f"{source}: runs {reconcile.shown(running)}, pinned is {wanted.pin.digest[:12]}; "
            f"`mlops reconcile {source}` first"
        )
    return _repin(root, main, target, wanted.pin, "promote", f"It runs in {source} now.", forge)


def rollback(root: Path, environment: str, to: str | None, forge: Forge) -> str:
    """Propose the pin that an environment had before, or had at a commit; the outcome in a line.

    Raises UserError when there is no such pin.
    """
    main = git.tip(root)
    if to is None:
        pin, commit = _earlier(root, main, environment)
        return _repin(root, main, environment, pin, "rollback", f"As it was at {commit}.", forge)
    if not git.is_ancestor(root, git.commit(root, to), main):
        raise UserError(f"--to {to}: not a commit of the main line")
    earlier = manifest_at(root, to, environment).pin
    if earlier is None:
        raise UserError(f"{manifest.path(environment)}: pinned nothing at {to}")
    return _repin(root, main, environment, earlier, "rollback", f"As it was at {to}.", forge)


def _earlier(root: Path, main: str, environment: str) -> tuple[Pin, str]:
    """The newest pin with another bundle than now, and its commit in twelve digits."""
    current = manifest_at(root, main, environment).pin
    for change, pin in pin_history.history(root, main, environment):
        if current is None or pin.digest != current.digest:
            return pin, change.commit[:12]
    raise UserError(f"{manifest.path(environment)}: has pinned nothing else before")


def _repin(
    root: Path, main: str, environment: str, pin: Pin, verb: str, why: str, forge: Forge
) -> str:
    before = manifest_at(root, main, environment).pin
    if before == pin:
        return f"{environment} pins {pin.short} already; nothing to {verb}"
    proposal = Proposal(
        branch=f"{verb}/{environment}",
        parent=main,
        files={manifest.path(environment): _repinned(root, main, environment, pin)},
        title=f"{verb.capitalize()} {environment}: {_move(pin, before)}",
        why=_explanation(why, pin),
    )
    return propose(root, proposal, forge)


def _repinned(root: Path, commit: str, environment: str, pin: Pin) -> bytes:
    """The manifest at a commit with another pin."""
    text = git.show(root, commit, manifest.path(environment))
    if text is None:
        raise UserError(f"{manifest.path(environment)}: not in {commit}")
    return manifest.with_pin(text, pin).encode()


def _move(pin: Pin, before: Pin | None) -> str:
    return f"{pin.short}, before it {before.digest[:12]}" if before else f"{pin.short}, the first"


def _explanation(why: str, pin: Pin) -> str:
    """Why it is proposed, and what exactly is."""
    rows = {
        "bundle": pin.digest,
        "model": f"{pin.model} version {pin.version}",
        "commit": pin.commit,
        "data": pin.data,
        "run": pin.run,
    }
    return "\n".join([why, "", *(f"- {name}: {value}" for name, value in rows.items())])
