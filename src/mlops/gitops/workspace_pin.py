"""The pin of the bundle in the workspace, and what must be true of it before it is proposed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mlops.base.errors import UserError, one_line
from mlops.base.files import folder_digest, read_json
from mlops.contract.paths import BUNDLE, EVIDENCE, not_found
from mlops.contract.stages import RECORD
from mlops.forge import git
from mlops.gitops import pins, verdict
from mlops.registry.pin import Pin


def of_folder(root: Path) -> dict[str, Any]:
    """What a pin says of the bundle and evidence of a folder that is laid out as a workspace.

    Raises UserError for one that is damaged or not whole.
    """
    card_file, metrics_file = root / BUNDLE / "bundle.json", root / EVIDENCE / "metrics.json"
    try:
        card, metrics = read_json(card_file), read_json(metrics_file)["holdout"]
        values = {name: metric["value"] for name, metric in metrics.items()}
        contents = pins.locked(root)
        return {
            "model": card["name"],
            "digest": folder_digest(root / BUNDLE),
            "evidence": folder_digest(root / EVIDENCE),
            "data": card["hashes"]["data"],
            "dvc": contents.model_dump() if contents else None,
            "metrics": {name: round(v, 6) for name, v in values.items() if v is not None},
        }
    except FileNotFoundError as error:
        raise UserError(not_found(Path(error.filename))) from None
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise UserError(f"{card_file}, {metrics_file}: damaged: {one_line(error)}") from None


def of_workspace(root: Path) -> Pin:
    """The pin of the workspace's bundle.

    Raises UserError without an accepted verdict on these very bytes, with uncommitted changes,
    or for a bundle that is not registered.
    """
    from mlops.pipeline import tracking_server
    from mlops.registry import versions

    digest, _ = accepted(root, root, git.base(root))
    facts = of_folder(root)
    version = versions.by_digest(root, facts["model"], digest)
    if version is None:
        place = tracking_server.display_uri(root)
        raise UserError(f"bundle {digest[:12]}: not registered in {place}; `mlops register`")
    require_current(root)
    if facts["dvc"] is None:
        raise UserError(f"{RECORD}: names no bundle with evidence; `make train`")
    commit = git.commit(root, "HEAD")
    return Pin(**facts, version=version.number, run=version.run, commit=commit)


def accepted(root: Path, folder: Path, main: str) -> tuple[str, str]:
    """The digests of a folder's bundle and evidence, which the gate has accepted.

    Raises UserError without an accepted verdict on these very bytes, against the champion that
    `main` pins, or with uncommitted changes.
    """
    # The commit must be what made the bundle; dvc.lock goes with the release.
    changed = pins.but_record(git.changed(root))
    if changed:
        raise UserError(f"{changed[0]}: differs from the commit; commit or undo it, then release")
    digest, evidence = folder_digest(folder / BUNDLE), folder_digest(folder / EVIDENCE)
    judged, pinned = verdict.load(folder), pins.manifest_at(root, main, pins.PRODUCTION)[0].pin
    if judged.candidate == digest and not judged.accepted:
        reason = judged.line
    elif not judged.rules or judged.refusals:
        reason = "found no rule that passed, expected every rule"
    elif judged.candidate != digest:
        reason = f"is on {judged.candidate[:12]}, found {digest[:12]} here; `mlops gate`"
    elif judged.evidence != evidence:
        reason = f"is on evidence {judged.evidence[:12]}, found {evidence[:12]} here; `mlops gate`"
    elif judged.champion != (pinned.digest if pinned else None):
        reason = "another champion now; `mlops gate` again, from main's tip"
    else:
        return digest, evidence
    raise UserError(f"{verdict.FILE}: {reason}")


def require_current(root: Path) -> None:
    """Raise UserError where dvc.lock is of other files or parameters, as after a wrong merge."""
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    from mlops.pipeline import reproduction

    reproduction.require_record(root)
    try:
        stale = Repo(str(root)).status(["tune", "train", "evaluate"])
    except DvcException as error:
        raise UserError(f"{RECORD}: {one_line(error)}") from None
    if stale:
        raise UserError(f"{RECORD}: is of another {', '.join(sorted(stale))}; `make retrain`")
