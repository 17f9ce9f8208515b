"""The pin of the bundle in the workspace: accepted by the gate, registered, made by this commit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from mlops.base.errors import UserError
from mlops.base.files import folder_digest, read_json
from mlops.contract import bundle
from mlops.contract.paths import BUNDLE, EVIDENCE
from mlops.deploy import manifest
from mlops.forge import git
from mlops.gitops import gate_inputs, verdict
from mlops.gitops.verdict import Verdict
from mlops.pipeline import tracking
from mlops.registry import versions
from mlops.registry.pin import Contents, Pin

LOCK = Path("dvc.lock")


def of_workspace(root: Path) -> Pin:
    """The pin of the workspace's bundle.

    Raises UserError without an accepted verdict on these very bytes, with uncommitted changes,
    or for a bundle that is not registered.
    """
    card, (digest, evidence) = bundle.read_card(root / BUNDLE), accepted(root)
    version = versions.by_digest(root, card.name, digest)
    if version is None:
        raise UserError(
            f"bundle {digest[:12]}: not registered in {tracking.place(root)}; `mlops register`"
        )
    metrics = read_json(root / EVIDENCE / "metrics.json")["holdout"]
    return Pin(
        model=card.name,
        version=version.number,
        digest=digest,
        evidence=evidence,
        run=version.run,
        commit=git.commit(root, "HEAD"),
        data=card.hashes["data"],
        dvc=_contents(root),
        metrics={
            name: round(m["value"], 6) for name, m in metrics.items() if m["value"] is not None
        },
    )


def accepted(root: Path) -> tuple[str, str]:
    """The digests of the workspace's bundle and evidence, which the gate has accepted.

    Raises UserError without an accepted verdict on these very bytes, or with uncommitted changes.
    """
    _require_clean(root)
    digest, evidence = bundle.digest(root / BUNDLE), folder_digest(root / EVIDENCE)
    _require_accepted(verdict.load(root), digest, evidence, root)
    return digest, evidence


def _require_accepted(said: Verdict, digest: str, evidence: str, root: Path) -> None:
    file = verdict.FOLDER / verdict.FILE
    if (said.candidate, said.evidence) != (digest, evidence):
        raise UserError(
            f"{file}: speaks of {said.candidate[:12]}, here is {digest[:12]}; `mlops gate`"
        )
    if not said.accepted:
        raise UserError(f"{file}: {said.line}")
    pinned = manifest.load(root, gate_inputs.PRODUCTION).pin
    if said.champion != (pinned.digest if pinned else None):
        raise UserError(f"{file}: another champion now; `mlops gate` again, from main's tip")


def _contents(root: Path) -> Contents:
    """The names by which DVC keeps bundle and evidence, which must be what lies here."""
    from dvc.repo import Repo

    stale = Repo(str(root)).status(["train", "evaluate"])
    if stale:
        raise UserError(f"{LOCK}: speaks of another {', '.join(sorted(stale))}; `make train`")
    found = locked(root)
    if found is None:
        raise UserError(f"{LOCK}: speaks of no bundle with evidence; `make train`")
    return found


def locked(root: Path) -> Contents | None:
    """The names by which DVC keeps the bundle and the evidence that dvc.lock speaks of, if any."""
    try:
        stages: dict[str, Any] = yaml.safe_load((root / LOCK).read_text())["stages"]
        named = {out["path"]: out["md5"] for stage in stages.values() for out in stage["outs"]}
        return Contents(bundle=named[str(BUNDLE)], evidence=named[str(EVIDENCE)])
    except (FileNotFoundError, KeyError, TypeError, yaml.YAMLError):
        return None


def _require_clean(root: Path) -> None:
    """The commit must be what made the bundle; dvc.lock goes with the release."""
    others = [name for name in git.changed(root) if name != str(LOCK)]
    if others:
        raise UserError(f"{others[0]}: differs from the commit; commit or undo it, then release")
