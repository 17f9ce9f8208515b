"""The environments' pins: what Git says of them, and the pin of the bundle in the workspace."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import takewhile
from pathlib import Path
from typing import Any

from mlops.base import documents
from mlops.base.errors import Refused, UserError, nearest, one_line
from mlops.base.files import folder_digest, read_json
from mlops.contract.paths import BUNDLE, EVIDENCE, not_found
from mlops.contract.stages import RECORD
from mlops.deploy import manifest
from mlops.deploy.manifest import Manifest, Signer
from mlops.forge import git
from mlops.gitops import signing, verdict
from mlops.gitops.verdict import Rule
from mlops.registry.pin import Contents, Pin

PRODUCTION = "production"


def manifest_at(root: Path, commit: str, environment: str) -> tuple[Manifest, str]:
    """An environment's manifest at a commit, and its text. Raises UserError where it has none."""
    file = manifest.path(environment)
    place = f"{file} at {git.commit(root, commit)[:12]}"
    text = git.show(root, commit, file)
    if text is None:
        raise UserError(f"{place}: not found{nearest(environment, manifest.names(root))}")
    return manifest.parse(text, place), text


def pin_at(root: Path, commit: str, environment: str) -> Pin | None:
    """What an environment pins at a commit; None too where its manifest can't be read."""
    try:
        return manifest_at(root, commit, environment)[0].pin
    except UserError:
        return None


def history(root: Path, ref: str, environment: str) -> Iterator[tuple[git.Change, Pin | None]]:
    """What the main line up to `ref` has pinned, newest first; None for what can't be read."""
    for change in git.changes(root, ref, manifest.path(environment)):
        yield change, pin_at(root, change.commit, environment)


def pinned_since(root: Path, ref: str, environment: str, digest: str) -> int | None:
    """When the main line up to `ref` began to pin these bytes without a break, in seconds."""
    same = takewhile(lambda move: move[1] and move[1].digest == digest,
                     history(root, ref, environment))  # fmt: skip
    return min((change.time for change, _ in same), default=None)


def only_pins_changed(root: Path, base: str) -> bool:
    """Whether nothing but pins differs from the base: there is no candidate to judge then."""
    names = git.changed(root, base)
    changed = set(_but_record(names))
    files = {str(manifest.path(name)): name for name in manifest.names(root)}
    if not changed or changed - set(files) or rewritten(root, base):
        return False
    pinned = {file: manifest.load(root, name).pin for file, name in files.items()}
    texts = {file: (root / file).read_text() for file in changed}
    if any(text != manifest.with_pin(text, pinned[file]) for file, text in texts.items()):
        return False
    # A release brings the lock of what it pins, and no other.
    return str(RECORD) not in names or locked(root) in [pin.dvc for pin in pinned.values() if pin]


def rewritten(root: Path, base: str) -> list[str]:
    """The manifests that differ from the base above their pin."""
    files = [str(manifest.path(name)) for name in manifest.names(root)]
    return [file for file in files if _above_pin(root, file) != _above_pin(root, file, base)]


def changed(root: Path, since: str) -> list[str]:
    """The environments whose manifest differs from the one at `since`; all when it is unknown."""
    environments = manifest.names(root)
    if not git.exists(root, since):
        return environments
    return [name for name in environments if manifest_changed(root, since, name)]


def _but_record(files: list[str]) -> list[str]:
    """Changed files but those that a release brings with a pin: the lock, and signatures."""
    beside = re.compile(rf"{re.escape(str(RECORD))}|{manifest.SIGNATURES}/[0-9a-f]{{64}}\.json")
    return [name for name in files if not beside.fullmatch(name)]


def _above_pin(root: Path, file: str, commit: str = "") -> str | None:
    """A manifest without its pin, as it lies here or at a commit; None where there is none."""
    text = git.show(root, commit, Path(file)) if commit else (root / file).read_text()
    return None if text is None else manifest.with_pin(text, None)


def manifest_changed(root: Path, commit: str, environment: str) -> bool:
    """Whether an environment's manifest differs from the one at a commit."""
    file = manifest.path(environment)
    return git.show(root, commit, file) != (root / file).read_text()


def rules(root: Path, base: str, candidate: str) -> Iterator[Rule]:
    """One answer for each environment whose manifest differs from the base's.

    A branch may pin its own candidate, what the main line has pinned before, or nothing, each as
    `release`, `promote` and `rollback` write it.
    """
    manifests = {name: manifest.load(root, name) for name in manifest.names(root)}
    pinned = {name: here.pin for name, here in manifests.items()}
    moved = [name for name in pinned if manifest_changed(root, base, name)]
    before = {name: [pin for _, pin in history(root, base, name) if pin]
              for name in pinned if moved}  # fmt: skip
    earlier = [pin for known in before.values() for pin in known]
    for name in moved:
        pin = pinned[name]
        wrong = "" if pin is None or pin in earlier else _wrong(root, pin, earlier, candidate)
        source = manifests[name].promotion.source
        known = pin is None or pin in before[name]
        if source and not (wrong or known) and pin != pin_at(root, base, source):
            wrong = f"promotion.from: expected what {source} pins on main, or pinned here before"
        yield Rule(
            name=f"pin of {name}",
            found=pin.digest[:12] if pin else "nothing",
            limit="this candidate, or pinned before",
            passed=not wrong,
            why=f"{wrong}; `mlops release` writes pins" if wrong else "",
        )
        if pin and (signer := manifests[name].signer):
            yield _signed(root, name, pin, signer)


def _signed(root: Path, environment: str, pin: Pin, signer: Signer) -> Rule:
    """Whether the signer of an environment's manifest has signed what it pins."""
    why = ""
    try:
        signing.require(root, pin.digest, signer)
    except Refused as refused:
        why = str(refused)
    return Rule(
        name=f"signature of {environment}",
        found="none of its signer" if why else "valid",
        limit=f"by {signer.key or signer.identity}",
        passed=not why,
        why=why,
    )


def _wrong(root: Path, pin: Pin, earlier: list[Pin], candidate: str) -> str:
    """What is wrong with a pin that the main line has not had as it is; "" when nothing is."""
    same = [old for old in earlier if old.digest == pin.digest]
    if pin.digest == candidate:
        expected = _of_candidate(root, pin, same)
    elif same:
        expected = same[0].model_dump()
    else:
        return "nobody has judged these bytes"
    given = pin.model_dump()
    wrong = (key for key, value in expected.items() if given[key] != value)
    return next((f"{key}: found {given[key]}, expected {expected[key]}" for key in wrong), "")


def _of_candidate(root: Path, pin: Pin, earlier: list[Pin]) -> dict[str, Any]:
    """What a pin of the workspace's bundle says.

    Its commit must be of this branch, and not older than in earlier pins of the same bundle.
    Version and run are known where the bundle is registered.
    """
    from mlops.pipeline import tracking
    from mlops.registry import versions

    facts = of_folder(root)
    known = tracking.has_store(root) and versions.by_digest(root, facts["model"], pin.digest)
    is_ours = (
        git.exists(root, pin.commit)
        and git.is_ancestor(root, pin.commit, "HEAD")
        and all(git.is_ancestor(root, old.commit, pin.commit) for old in earlier)
    )
    facts["commit"] = pin.commit if is_ours else "the commit that made it"
    return facts | ({"version": known.number, "run": known.run} if known else {})


def of_folder(root: Path) -> dict[str, Any]:
    """What a pin says of the bundle and evidence of a folder that is laid out as a workspace.

    Raises UserError for one that is damaged or not whole.
    """
    card_file, metrics_file = root / BUNDLE / "bundle.json", root / EVIDENCE / "metrics.json"
    try:
        card, metrics = read_json(card_file), read_json(metrics_file)["holdout"]
        values = {name: metric["value"] for name, metric in metrics.items()}
        contents = locked(root)
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
    changed = _but_record(git.changed(root))
    if changed:
        raise UserError(f"{changed[0]}: differs from the commit; commit or undo it, then release")
    digest, evidence = folder_digest(folder / BUNDLE), folder_digest(folder / EVIDENCE)
    judged, pinned = verdict.load(folder), manifest_at(root, main, PRODUCTION)[0].pin
    if judged.candidate == digest and not judged.accepted:
        reason = judged.line
    elif not judged.rules or judged.refusals:
        reason = "found no rule that passed, expected every rule"
    elif (judged.candidate, judged.evidence) != (digest, evidence):
        reason = f"is on {judged.candidate[:12]}, found {digest[:12]} here; `mlops gate`"
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


def locked(root: Path) -> Contents | None:
    """The names by which DVC keeps the bundle and the evidence of dvc.lock, if it has them."""
    try:
        return names(documents.read(root / RECORD, "DVC's lock"))
    except UserError:
        return None


def names(lock: dict[str, Any]) -> Contents | None:
    """The names of bundle and evidence in the content of a dvc.lock, if it has them."""
    try:
        outs = {
            out["path"]: out["md5"] for stage in lock["stages"].values() for out in stage["outs"]
        }
        return Contents(bundle=outs[str(BUNDLE)], evidence=outs[str(EVIDENCE)])
    except (AttributeError, KeyError, TypeError, ValueError):
        return None
