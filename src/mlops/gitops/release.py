"""Release: propose the accepted bundle of the workspace for an environment, as a pull request.

In two steps, so that no job holds a token while it trains: `prepare` writes what is to be proposed,
`propose_prepared` checks and proposes it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from mlops.base.errors import UserError, one_line
from mlops.base.files import write_json
from mlops.contract.params import load
from mlops.contract.paths import BUNDLE
from mlops.contract.stages import RECORD
from mlops.deploy import manifest
from mlops.forge import git
from mlops.forge.protocol import Forge
from mlops.gitops import pins, prepared, signing, verdict, workspace_pin
from mlops.gitops.prepared import Prepared
from mlops.gitops.proposal import propose, repin, withdraw
from mlops.pipeline.params import Params


def release(root: Path, environment: str, forge: Forge) -> str:
    """Propose the workspace's bundle for an environment; the outcome in a line.

    Raises UserError without an accepted verdict on these very bytes, with uncommitted changes,
    or for a bundle that is not registered.
    """
    prepare(root, environment)
    return _propose(root, environment, root, forge)


def prepare(root: Path, environment: str) -> str:
    """Write what is to be proposed for an environment, and propose nothing; the outcome in a line.

    Raises UserError as `release` does.
    """
    from dvc.repo import Repo

    from mlops.pipeline import remotes

    manifest.load(root, environment)
    pin, differs = workspace_pin.of_workspace(root), prepared.differences(root, root)
    with Repo(str(root)) as repo:
        where: Literal["dvc", "git"] = "dvc" if remotes.default(repo) else "git"
    made = Prepared(environment=environment, pin=pin, bundles=where, differs=differs)
    write_json(root / prepared.FILE, made.model_dump(mode="json"))
    return f"{prepared.FILE}: {pin.short} for {environment}; {made.line}"


def propose_prepared(root: Path, environment: str, folder: Path, forge: Forge) -> str:
    """Propose what another job prepared, laid out as a workspace in `folder`; the outcome.

    Raises UserError for anything in it that is not as it must be; nothing is proposed then.
    """
    prepared.require_plain(folder)
    return _propose(root, environment, folder, forge)


def _propose(root: Path, environment: str, folder: Path, forge: Forge) -> str:
    made = prepared.verified(root, environment, folder)
    pin, before = made.pin, pins.pin_at(root, "HEAD", environment)
    if before and (before.digest, before.evidence) == (pin.digest, pin.evidence):
        withdraw(root, f"release/{environment}", forge)
        return f"{environment} pins {before.short} already; nothing to release"
    signing.sign_once(load(Params, root), root, folder / BUNDLE)
    # Before it is proposed: what is pinned must be there.
    if made.bundles == "git":
        prepared.keep(root, folder, pin)
    why = f"{one_line(verdict.load(folder).line).capitalize()}.\n\n{made.line.capitalize()}."
    lock = (folder / RECORD).read_bytes()
    proposal = repin(root, pin.commit, environment, pin, "release", why, lock)
    return f"{made.line}; {propose(root, proposal, forge)}"


def clean_room(root: Path) -> str:
    """Forget what dvc.lock says was made, before main trains; the outcome in a line.

    It came with a pull request: stages are restored only where a job of main's has made them of
    the same inputs, which DVC's run cache knows. Raises UserError for one that is not committed.
    """
    if load(Params, root).release.trust != "main":
        return f"{RECORD}: trusted, as release.trust says"
    if (root / RECORD).exists() and str(RECORD) in git.changed(root):
        raise UserError(f"{RECORD}: differs from the commit; commit or undo it, then set it aside")
    (root / RECORD).unlink(missing_ok=True)
    return f"{RECORD}: set aside; main trains from its own store"


def unreleased(root: Path, environment: str, since: str) -> bool:
    """Whether main may make what an environment does not pin.

    It does not when pins alone differ from both the commit `since`, so that nothing which waits
    to be released was overtaken, and the commit that made what is pinned, which the lock names.
    """
    pin = manifest.load(root, environment).pin
    if pin is None or not all(git.exists(root, commit) for commit in (since, pin.commit)):
        return True
    if not (pins.only_pins_changed(root, since) and pins.only_pins_changed(root, pin.commit)):
        return True
    return pins.locked(root) != pin.dvc
