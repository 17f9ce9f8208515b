"""Release, promote, roll back: a commit that changes a pin, on a branch, as a pull request.

Nothing runs anywhere because of these; what is merged is what `reconcile` makes so.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from mlops.core import bundle, tracking
from mlops.core.errors import UserError
from mlops.core.files import folder_digest, read_json
from mlops.core.metrics import main_metric
from mlops.core.params import Params
from mlops.core.paths import BUNDLE, EVIDENCE
from mlops.deploy import TARGETS
from mlops.gitops import contest, git, manifest, verdict
from mlops.gitops.forge import Forge
from mlops.gitops.manifest import Contents, Manifest, Pin

LOCK = Path("dvc.lock")
ATTEMPTS = 3
CONTEXT = "mlops/gate"


@dataclass(frozen=True)
class Move:
    """What a move would change: files on top of a commit, and the words that go with it."""

    environment: str
    branch: str
    parent: str
    files: Mapping[Path, bytes]
    pin: Pin
    title: str
    why: str


def release(params: Params, root: Path, environment: str, forge: Forge) -> str:
    """Propose the workspace's bundle for an environment; what came of it, in a line.

    Raises UserError without an accepted verdict on these very bytes, with uncommitted changes,
    or for a bundle that is not registered.
    """
    _require_clean(root)
    pin = _candidate(params, root)
    before = manifest.load(root, environment).pin
    if before and (before.digest, before.evidence) == (pin.digest, pin.evidence):
        return f"{environment} pins {pin.short} already; nothing to release"
    judged = verdict.load(root)
    files = {
        manifest.path(environment): _repinned(root, "HEAD", environment, pin),
        LOCK: (root / LOCK).read_bytes(),
    }
    move = Move(
        environment=environment,
        branch=f"release/{environment}",
        parent=pin.commit,
        files=files,
        pin=pin,
        title=f"Release to {environment}: {pin.short}{_instead_of(before)}",
        why=f"{_measured(params, root, pin)}. {judged.line.capitalize()}.",
    )
    return _propose(root, move, forge)


def promote(root: Path, source: str, target: str, forge: Forge) -> str:
    """Propose for `target` what `source` pins and runs; what came of it, in a line.

    Raises UserError when `source` pins nothing, or runs other bytes than it pins.
    """
    main = _main(root)
    pinned = _manifest_at(root, main, source)
    if pinned.pin is None:
        raise UserError(f"{manifest.path(source)}: pins nothing; there is nothing to promote")
    running = TARGETS[pinned.target].current(source, root)
    if running != pinned.pin.digest:
        runs = running[:12] if running else "nothing"
        raise UserError(
            f"{source}: runs {runs}, pinned is {pinned.pin.digest[:12]}; "
            f"`mlops reconcile {source}` first"
        )
    return _repin(root, main, target, pinned.pin, "promote", f"It runs in {source} now.", forge)


def rollback(root: Path, environment: str, to: str | None, forge: Forge) -> str:
    """Propose the pin that an environment had before, or had at a commit; what came of it.

    Raises UserError when there is no such pin.
    """
    main = _main(root)
    now = _manifest_at(root, main, environment).pin
    if to:
        pin = _manifest_at(root, git.commit(root, to), environment).pin
        why = f"As it was at {to}."
    else:
        pin, commit = _earlier(root, main, environment, now)
        why = f"As it was at {commit[:12]}."
    if pin is None:
        raise UserError(f"{manifest.path(environment)}: pinned nothing at {to}")
    return _repin(root, main, environment, pin, "rollback", why, forge)


def _candidate(params: Params, root: Path) -> Pin:
    """The pin of the workspace's bundle, which the gate has accepted and the registry has."""
    card, digest = bundle.read_card(root / BUNDLE), bundle.digest(root / BUNDLE)
    evidence = folder_digest(root / EVIDENCE)
    _require_accepted(verdict.load(root), digest, evidence, root)
    from mlops.stages import register

    client, _ = tracking.connect(params, root)
    version = register.find(client, card.name, digest)
    if version is None:
        raise UserError(
            f"bundle {digest[:12]}: not registered in {tracking.uri(root)}; `mlops register`"
        )
    metrics = read_json(root / EVIDENCE / "metrics.json")["holdout"]
    return Pin(
        model=card.name,
        version=int(version.version),
        digest=digest,
        evidence=evidence,
        run=version.run_id,
        commit=git.commit(root, "HEAD"),
        data=card.hashes["data"],
        dvc=_contents(root),
        metrics={
            name: round(m["value"], 6) for name, m in metrics.items() if m["value"] is not None
        },
    )


def _require_accepted(said: verdict.Verdict, digest: str, evidence: str, root: Path) -> None:
    file = verdict.FOLDER / verdict.FILE
    if (said.candidate, said.evidence) != (digest, evidence):
        raise UserError(
            f"{file}: speaks of {said.candidate[:12]}, here is {digest[:12]}; `mlops gate`"
        )
    if not said.accepted:
        raise UserError(f"{file}: {said.line}")
    pinned = manifest.load(root, contest.PRODUCTION).pin
    if said.champion != (pinned.digest if pinned else None):
        raise UserError(f"{file}: the champion is another one now; `mlops gate` again")


def _contents(root: Path) -> Contents:
    """The names by which DVC keeps bundle and evidence."""
    stages: dict[str, Any] = yaml.safe_load((root / LOCK).read_text())["stages"]
    named = {out["path"]: out["md5"] for stage in stages.values() for out in stage["outs"]}
    try:
        return Contents(bundle=named[str(BUNDLE)], evidence=named[str(EVIDENCE)])
    except KeyError as error:
        raise UserError(f"{LOCK}: {error} is not in it; `make train`") from None


def _require_clean(root: Path) -> None:
    """The commit must be what made the bundle; dvc.lock goes with the release."""
    others = [name for name in git.changed(root) if name != str(LOCK)]
    if others:
        raise UserError(f"{others[0]}: differs from the commit; commit or undo it, then release")


def _main(root: Path) -> str:
    """The tip of the main line, the remote's where there is one."""
    branch = git.main_branch(root)
    if not git.has_remote(root):
        return git.commit(root, "HEAD")
    git.fetch(root, branch)
    return git.commit(root, f"{git.REMOTE}/{branch}")


def _manifest_at(root: Path, commit: str, environment: str) -> Manifest:
    text = git.show(root, commit, manifest.path(environment))
    where = f"{manifest.path(environment)} at {commit[:12]}"
    if text is None:
        raise UserError(f"{where}: not found")
    return manifest.parse(text, where)


def _earlier(root: Path, main: str, environment: str, now: Pin | None) -> tuple[Pin, str]:
    for change in git.changes(root, main, manifest.path(environment)):
        pin = _manifest_at(root, change.commit, environment).pin
        if pin and (now is None or pin.digest != now.digest):
            return pin, change.commit
    raise UserError(f"{manifest.path(environment)}: has pinned nothing else before")


def _repin(
    root: Path, main: str, environment: str, pin: Pin, verb: str, why: str, forge: Forge
) -> str:
    before = _manifest_at(root, main, environment).pin
    if before == pin:
        return f"{environment} pins {pin.short} already; nothing to {verb}"
    move = Move(
        environment=environment,
        branch=f"{verb}/{environment}",
        parent=main,
        files={manifest.path(environment): _repinned(root, main, environment, pin)},
        pin=pin,
        title=f"{verb.capitalize()} {environment}: {pin.short}{_instead_of(before)}",
        why=why,
    )
    return _propose(root, move, forge)


def _repinned(root: Path, commit: str, environment: str, pin: Pin) -> bytes:
    text = git.show(root, commit, manifest.path(environment))
    if text is None:
        raise UserError(f"{manifest.path(environment)}: not in {commit}")
    return manifest.with_pin(text, pin).encode()


def _instead_of(before: Pin | None) -> str:
    return f", before it {before.digest[:12]}" if before else ", the first"


def _measured(params: Params, root: Path, pin: Pin) -> str:
    name, _ = main_metric(bundle.read_card(root / BUNDLE).task)
    return f"Holdout {name} {pin.metrics[name]:.4f}"


def _propose(root: Path, move: Move, forge: Forge) -> str:
    """Put the commit on its branch and open or update its pull request.

    Of two that propose at once, the one made from the later commit stays.
    """
    message = f"{move.title}\n\n{move.why}\n\n{_facts(move.pin)}\n"
    if not git.has_remote(root):
        commit = git.write(root, move.parent, move.files, message)
        git.git(root, "branch", "--force", move.branch, commit)
        return f"{move.title}: on branch {move.branch}; no remote to push it to"
    for attempt in range(ATTEMPTS):
        there = git.remote_head(root, move.branch)
        if there and _is_newer(root, there, move):
            return f"{move.title}: not proposed, {move.branch} holds a later one"
        if not (there and _is_same(root, there, move)):
            there_before, there = there, git.write(root, move.parent, move.files, message)
            try:
                git.push(root, there, move.branch, there_before)
            except git.GitError:
                if attempt + 1 == ATTEMPTS or git.remote_head(root, move.branch) == there_before:
                    raise
                continue
        forge.status(there, "success", CONTEXT, "accepted before it was proposed")
        url = forge.pull_request(
            move.branch, git.main_branch(root), move.title, f"{move.why}\n\n{_facts(move.pin)}"
        )
        return f"{move.title}: {url}"
    raise AssertionError("unreachable")


def _is_same(root: Path, there: str, move: Move) -> bool:
    """Whether the branch holds this very proposal, on this very commit."""
    parent = git.commit(root, f"{there}^")
    return parent == move.parent and all(
        (git.show(root, there, file) or "").encode() == content
        for file, content in move.files.items()
    )


def _is_newer(root: Path, there: str, move: Move) -> bool:
    parent = git.commit(root, f"{there}^")
    return parent != move.parent and git.is_ancestor(root, move.parent, parent)


def _facts(pin: Pin) -> str:
    rows = {
        "bundle": pin.digest,
        "model": f"{pin.model} version {pin.version}",
        "commit": pin.commit,
        "data": pin.data,
        "run": pin.run,
    }
    return "\n".join(f"- {name}: {value}" for name, value in rows.items())
