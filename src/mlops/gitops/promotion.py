"""Release, promote, roll back: a commit that changes a pin, on a branch, as a pull request.

Nothing runs anywhere because of these; what is merged is what `reconcile` makes so.
"""

from __future__ import annotations

from pathlib import Path

from mlops import deploy
from mlops.base.errors import UserError
from mlops.deploy import manifest
from mlops.deploy.manifest import Manifest
from mlops.forge import git
from mlops.forge.protocol import Forge
from mlops.gitops import pins, reconcile, verdict
from mlops.gitops.pin import LOCK, accepted, locked, of_workspace
from mlops.gitops.proposal import Proposal, propose, withdraw
from mlops.registry.pin import Pin


def release(root: Path, environment: str, forge: Forge) -> str:
    """Propose the workspace's bundle for an environment; what came of it, in a line.

    Raises UserError without an accepted verdict on these very bytes, with uncommitted changes,
    or for a bundle that is not registered.
    """
    before = manifest.load(root, environment).pin
    if before and (before.digest, before.evidence) == accepted(root):
        withdraw(root, f"release/{environment}", forge)
        return f"{environment} pins {before.short} already; nothing to release"
    pin = of_workspace(root)
    files = {
        manifest.path(environment): _repinned(root, "HEAD", environment, pin),
        LOCK: (root / LOCK).read_bytes(),
    }
    proposal = Proposal(
        branch=f"release/{environment}",
        parent=pin.commit,
        files=files,
        title=f"Release to {environment}: {pin.short}{_instead_of(before)}",
        why=_because(f"{verdict.load(root).line.capitalize()}.", pin),
    )
    return propose(root, proposal, forge)


def unreleased(root: Path, environment: str, since: str) -> bool:
    """Whether main may make what an environment does not pin.

    It does not when pins alone differ from both the commit `since`, so that nothing which waits
    to be released was overtaken, and the commit that made what is pinned, of which the lock speaks.
    """
    pin = manifest.load(root, environment).pin
    if pin is None or not all(git.exists(root, commit) for commit in (since, pin.commit)):
        return True
    if not (pins.only(root, since) and pins.only(root, pin.commit)):
        return True
    return locked(root) != pin.dvc


def promote(root: Path, source: str, target: str, forge: Forge) -> str:
    """Propose for `target` what `source` pins and runs; what came of it, in a line.

    Raises UserError when `source` pins nothing, or runs other bytes than it pins.
    """
    main = git.tip(root)
    pinned = _manifest_at(root, main, source)
    if pinned.pin is None:
        raise UserError(f"{manifest.path(source)}: pins nothing; there is nothing to promote")
    found = deploy.named(pinned.target).current(reconcile.endpoint_of(pinned, root, source))
    if found.traffic != {pinned.pin.digest: 100}:
        raise UserError(
            f"{source}: runs {reconcile.shown(found)}, pinned is {pinned.pin.digest[:12]}; "
            f"`mlops reconcile {source}` first"
        )
    return _repin(root, main, target, pinned.pin, "promote", f"It runs in {source} now.", forge)


def rollback(root: Path, environment: str, to: str | None, forge: Forge) -> str:
    """Propose the pin that an environment had before, or had at a commit; what came of it.

    Raises UserError when there is no such pin.
    """
    main = git.tip(root)
    now = _manifest_at(root, main, environment).pin
    if to:
        if not git.is_ancestor(root, git.commit(root, to), main):
            raise UserError(f"--to {to}: not a commit of the main line")
        pin = _manifest_at(root, git.commit(root, to), environment).pin
        why = f"As it was at {to}."
    else:
        pin, commit = _earlier(root, main, environment, now)
        why = f"As it was at {commit[:12]}."
    if pin is None:
        raise UserError(f"{manifest.path(environment)}: pinned nothing at {to}")
    return _repin(root, main, environment, pin, "rollback", why, forge)


def _manifest_at(root: Path, commit: str, environment: str) -> Manifest:
    text = git.show(root, commit, manifest.path(environment))
    where = f"{manifest.path(environment)} at {commit[:12]}"
    if text is None:
        raise UserError(f"{where}: not found")
    return manifest.parse(text, where)


def _earlier(root: Path, main: str, environment: str, now: Pin | None) -> tuple[Pin, str]:
    for change, pin in pins.history(root, main, environment):
        if now is None or pin.digest != now.digest:
            return pin, change.commit
    raise UserError(f"{manifest.path(environment)}: has pinned nothing else before")


def _repin(
    root: Path, main: str, environment: str, pin: Pin, verb: str, why: str, forge: Forge
) -> str:
    before = _manifest_at(root, main, environment).pin
    if before == pin:
        return f"{environment} pins {pin.short} already; nothing to {verb}"
    proposal = Proposal(
        branch=f"{verb}/{environment}",
        parent=main,
        files={manifest.path(environment): _repinned(root, main, environment, pin)},
        title=f"{verb.capitalize()} {environment}: {pin.short}{_instead_of(before)}",
        why=_because(why, pin),
    )
    return propose(root, proposal, forge)


def _repinned(root: Path, commit: str, environment: str, pin: Pin) -> bytes:
    text = git.show(root, commit, manifest.path(environment))
    if text is None:
        raise UserError(f"{manifest.path(environment)}: not in {commit}")
    return manifest.with_pin(text, pin).encode()


def _instead_of(before: Pin | None) -> str:
    return f", before it {before.digest[:12]}" if before else ", the first"


def _because(why: str, pin: Pin) -> str:
    """Why it is proposed, and what exactly is."""
    rows = {
        "bundle": pin.digest,
        "model": f"{pin.model} version {pin.version}",
        "commit": pin.commit,
        "data": pin.data,
        "run": pin.run,
    }
    return "\n".join([why, "", *(f"- {name}: {value}" for name, value in rows.items())])
