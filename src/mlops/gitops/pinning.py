"""The pin of the bundle in the workspace: accepted by the gate, registered, made by this commit."""

from __future__ import annotations

from pathlib import Path

from mlops.base import documents
from mlops.base.errors import UserError
from mlops.base.files import folder_digest, read_json
from mlops.contract import bundle
from mlops.contract.paths import BUNDLE, EVIDENCE
from mlops.deploy import manifest
from mlops.forge import git
from mlops.gitops import gate_inputs, verdict
from mlops.gitops.pin_history import LOCK
from mlops.pipeline import tracking
from mlops.registry import versions
from mlops.registry.pin import Contents, Pin


def of_workspace(root: Path) -> Pin:
    """The pin of the workspace's bundle.

    Raises UserError without an accepted verdict on these very bytes, with uncommitted changes,
    or for a bundle that is not registered.
    """
    card, (digest, evidence) = bundle.read_card(root / BUNDLE), accepted(root)
    version = versions.by_digest(root, card.name, digest)
    if version is None:
        place = tracking.display_uri(root)
        raise UserError(f"bundle {digest[:12]}: not registered in {place}; `mlops register`")
    metrics = read_json(root / EVIDENCE / "metrics.json")["holdout"]
    values = {name: metric["value"] for name, metric in metrics.items()}
    return Pin(
        model=card.name,
        version=version.number,
        digest=digest,
        evidence=evidence,
        run=version.run,
        commit=git.commit(root, "HEAD"),
        data=card.hashes["data"],
        dvc=_contents(root),
        metrics={name: round(value, 6) for name, value in values.items() if value is not None},
    )


def accepted(root: Path) -> tuple[str, str]:
    """The digests of the workspace's bundle and evidence, which the gate has accepted.

    Raises UserError without an accepted verdict on these very bytes, or with uncommitted changes.
    """
    # The commit must be what made the bundle; dvc.lock goes with the release.
    changed = [name for name in git.changed(root) if name != str(LOCK)]
    if changed:
        raise UserError(f"{changed[0]}: differs from the commit; commit or undo it, then release")
    digest, evidence = bundle.digest(root / BUNDLE), folder_digest(root / EVIDENCE)
    judged, pinned = verdict.load(root), manifest.load(root, gate_inputs.PRODUCTION).pin
    if (judged.candidate, judged.evidence) != (digest, evidence):
        reason = f"is on {judged.candidate[:12]}, found {digest[:12]} here; `mlops gate`"
    elif not judged.accepted:
        reason = judged.line
    elif judged.champion != (pinned.digest if pinned else None):
        reason = "another champion now; `mlops gate` again, from main's tip"
    else:
        return digest, evidence
    raise UserError(f"{verdict.FILE}: {reason}")


def _contents(root: Path) -> Contents:
    """The names by which DVC keeps bundle and evidence, which must be what lies here."""
    from dvc.repo import Repo

    stale = Repo(str(root)).status(["train", "evaluate"])
    if stale:
        raise UserError(f"{LOCK}: is of another {', '.join(sorted(stale))}; `make train`")
    contents = locked(root)
    if contents is None:
        raise UserError(f"{LOCK}: names no bundle with evidence; `make train`")
    return contents


def locked(root: Path) -> Contents | None:
    """The names by which DVC keeps the bundle and the evidence of dvc.lock, if it has them."""
    try:
        stages = documents.read(root / LOCK, "DVC's lock")["stages"]
        names = {out["path"]: out["md5"] for stage in stages.values() for out in stage["outs"]}
        return Contents(bundle=names[str(BUNDLE)], evidence=names[str(EVIDENCE)])
    except (UserError, KeyError, TypeError):
        return None
