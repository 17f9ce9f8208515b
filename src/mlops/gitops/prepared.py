"""A prepared release: what the job that trains hands over, checked by the job that may write.

Imports only what that second job's small environment has, and runs nothing of what it is given.
"""

from __future__ import annotations

import hashlib
import json
import re
import stat
from pathlib import Path
from typing import Any, Literal

from mlops.base import documents
from mlops.base.errors import UserError, one_line
from mlops.base.files import folder_digests
from mlops.contract import params
from mlops.contract.paths import BUNDLE, EVIDENCE, WRITERS
from mlops.contract.stages import MADE_BY_DVC, RECORD
from mlops.forge import branches, git
from mlops.gitops import pins, verdict, workspace_pin
from mlops.gitops.params import Params
from mlops.pipeline.workspace import WRITTEN
from mlops.registry.pin import BRANCH, Pin, Section

FILE = verdict.FOLDER / "proposal.json"
PARTS = {"bundle": BUNDLE, "evidence": EVIDENCE}
FILES = re.compile(
    rf"dvc\.lock|{verdict.FOLDER}/({verdict.WRITTEN})|"
    + "|".join(f"{part}/({WRITTEN[part]})" for part in PARTS.values())
)
# Git's branch gets a folder of at most so many times `gate.size_mb`, which limits the model.
SIZE = 2
ROLES = {"requirements.lock": "lock", str(params.FILE): "parameters"}
Cause = Literal["data", "code", "parameters", "lock", "machine", "record"]
CAUSES: dict[Cause, str] = {
    "data": "other data",
    "code": "other code",
    "parameters": "other parameters",
    "lock": "another requirements.lock",
    "machine": "same inputs and other bytes, from another machine or training environment",
    "record": "not in the dvc.lock that was merged",
}


class Prepared(Section):
    """`proposal.json`: a pin for an environment, and where its bundle is to be kept.

    `differs` says for each stage, in order, what is not as in the dvc.lock that was merged; it is
    empty where bundle and evidence are those that were judged.
    """

    environment: str
    pin: Pin
    bundles: Literal["dvc", "git"]
    differs: dict[str, tuple[Cause, ...]]

    @property
    def line(self) -> str:
        """Whether main has made the bytes that were judged."""
        words = {stage: [CAUSES[cause] for cause in self.differs[stage]] for stage in self.differs}
        stages = "; ".join(f"{stage}: {', '.join(causes)}" for stage, causes in words.items())
        return f"not reproduced: {stages}" if stages else "reproduced: the digest that was judged"


def verified(root: Path, environment: str, folder: Path) -> Prepared:
    """What a folder, laid out as a workspace, proposes for an environment.

    Raises UserError unless all of it is true of its bundle, evidence and lock, of a commit of the
    main line, which is checked out here, and of a verdict against the champion of now.
    """
    absent = f"{folder / FILE}: not found; `mlops release ENV --prepare` writes it"
    prepared = documents.load_json(folder / FILE, Prepared, absent)
    commit, main = git.commit(root, "HEAD"), git.tip(root)
    workspace_pin.accepted(root, folder, main)
    if commit not in git.git(root, "rev-list", "--first-parent", main).split():
        raise UserError(f"{commit[:12]}: not a commit of the main line; push or merge it first")
    facts, given = workspace_pin.of_folder(folder), prepared.model_dump()
    named = {part: _dvc_name(folder / path) for part, path in PARTS.items()}
    differs = differences(root, folder)
    pin = {**facts, "commit": commit}
    for place, key, found, expected in (
        (BUNDLE, "name", facts["model"], params.load(Params, root).model),
        (RECORD, "outs", facts["dvc"], named),
        *((FILE, f"pin.{key}", given["pin"][key], pin[key]) for key in pin),
        (FILE, "environment", prepared.environment, environment),
        (FILE, "differs", prepared.differs, differs),
    ):
        if found != expected:
            said = f"found {documents.shown(found)}, expected {documents.shown(expected)}"
            raise UserError(f"{place}: {key}: {said}; prepare it again")
    return prepared


def require_plain(folder: Path) -> None:
    """Raise UserError where a folder has anything but the plain files of a prepared release."""
    for path in sorted(folder.rglob("*")):
        name, state = path.relative_to(folder).as_posix(), path.lstat()
        if stat.S_ISDIR(state.st_mode):
            continue
        if not (stat.S_ISREG(state.st_mode) and FILES.fullmatch(name)):
            raise UserError(f"{path}: found what is no file of a release")
        is_part = any(Path(name).is_relative_to(part) for part in PARTS.values())
        if state.st_size > documents.LONGEST_TEXT and not is_part:
            limit = f"expected at most {documents.LONGEST_TEXT:,}"
            raise UserError(f"{path}: found {state.st_size:,} bytes, {limit}")


def differences(root: Path, folder: Path) -> dict[str, tuple[Cause, ...]]:
    """For each stage in order, what the folder's dvc.lock has otherwise than the commit's.

    Empty where both name the same bundle and evidence. A stage that only follows an earlier one is
    left out.
    """
    text = git.show(root, "HEAD", RECORD)
    before = documents.parse(text, f"{RECORD} at HEAD") if text else {}
    after = documents.read(folder / RECORD, "DVC's lock")
    if pins.names(before) == pins.names(after):
        return {}
    found: dict[str, tuple[Cause, ...]] = {}
    try:
        for stage in MADE_BY_DVC:
            was, now = (lock.get("stages", {}).get(stage) for lock in (before, after))
            if not was:
                return {**found, stage: ("record",)}
            if causes := _causes(was, now):
                found[stage] = causes
    except (AttributeError, KeyError, TypeError) as error:
        raise UserError(f"{RECORD}: damaged: {one_line(error)}; `make retrain`") from None
    return found or {MADE_BY_DVC[-1]: ("record",)}


def _causes(was: dict[str, Any], now: dict[str, Any]) -> tuple[Cause, ...]:
    before, after = _inputs(was), _inputs(now)
    changed = {kind for kind in {**before, **after} if before.get(kind) != after.get(kind)}
    if not changed and was["outs"] != now["outs"]:
        return ("machine",)
    return tuple(cause for cause in CAUSES if cause in changed)


def _inputs(stage: dict[str, Any]) -> dict[str, object]:
    """What a stage was made from, by kind; `made` is what earlier stages wrote."""
    values = {dep["path"]: dep["md5"] for dep in stage["deps"]} | stage.get("params", {})
    kinds: dict[str, Any] = {"data": {}, "code": {"cmd": stage["cmd"]}, "made": {}}
    for name, value in values.items():
        is_made = any(Path(name).is_relative_to(output) for output in WRITERS)
        other = "made" if is_made else "code" if name.startswith("src/") else "data"
        kinds.setdefault(ROLES.get(name, other), {})[name] = value
    return kinds


def _dvc_name(folder: Path) -> str:
    """DVC's name of a folder: the MD5 of the list of its files."""
    contents = {name: (folder / name).read_bytes() for name in sorted(folder_digests(folder))}
    files = [{"md5": _md5(content), "relpath": name} for name, content in contents.items()]
    return f"{_md5(json.dumps(files, sort_keys=True).encode())}.dir"


def _md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def keep(root: Path, folder: Path, pin: Pin) -> None:
    """Push bundle and evidence to Git's branch for them, each in the folder of its digest.

    Raises UserError for one that is too large for Git, and GitError when the push is not allowed.
    """
    limit, files = SIZE * params.load(Params, root).gate.size_mb, dict[Path, bytes]()
    for part, digest in zip(PARTS.values(), (pin.digest, pin.evidence), strict=True):
        paths = [path for path in (folder / part).rglob("*") if path.is_file()]
        size = sum(path.stat().st_size for path in paths) / 1e6
        if size > limit:
            raise UserError(
                f"{part}: found {size:.1f} MB, expected at most {limit:g} MB, {SIZE} times "
                "gate.size_mb, on a Git branch; `dvc remote add --default NAME URL` keeps it there"
            )
        files |= {Path(digest) / path.relative_to(folder): path.read_bytes() for path in paths}

    def made(head: str) -> str:
        folders = [Path(pin.digest), Path(pin.evidence)]
        commit = branches.write(root, head, files, f"Keep {pin.short}", folders)
        same = head and not git.git(root, "diff", "--name-only", head, commit)
        return head if same else commit

    branches.update(root, BRANCH, made)
