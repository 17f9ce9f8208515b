"""Release: propose the accepted bundle of the workspace for an environment, as a pull request."""

from __future__ import annotations

from pathlib import Path

from mlops.contract.stages import RECORD
from mlops.deploy import manifest
from mlops.forge import git
from mlops.forge.protocol import Forge
from mlops.gitops import verdict
from mlops.gitops.pins import accepted, locked, of_workspace, only_pins_changed
from mlops.gitops.proposal import propose, repin, withdraw


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
    return propose(root, repin(root, pin.commit, environment, pin, "release", why, lock), forge)


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
