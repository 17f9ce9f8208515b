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

from pydantic import ValidationError

from mlops.base import documents
from mlops.base.errors import UserError, one_line
from mlops.base.files import folder_digests, read_json, write_json
from mlops.contract import params
from mlops.contract.paths import BUNDLE, EVIDENCE, WRITERS
from mlops.contract.stages import MADE_BY_DVC, RECORD
from mlops.forge import git
from mlops.gitops import pins, verdict
from mlops.gitops.params import Params
from mlops.pipeline.workspace import WRITTEN
from mlops.registry.pin import BRANCH, Pin, Section

FILE = verdict.FOLDER / "proposal.json"
PARTS = (BUNDLE, EVIDENCE)
FILES = re.compile(
    rf"dvc\.lock|{verdict.FOLDER}/(verdict\.json|report\.md|proposal\.json)|"
    + "|".join(f"{part}/({WRITTEN[part]})" for part in PARTS)
)
# Git's branch gets a folder of at most so many times `gate.size_mb`, which limits the model.
SIZE = 2
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
        if not self.differs:
            return "reproduced: the digest that was judged"
        stages = (f"{stage}: {', '.join(map(CAUSES.__getitem__, causes))}"
                  for stage, causes in self.differs.items())  # fmt: skip
        return f"not reproduced: {'; '.join(stages)}"

    def save(self, root: Path) -> None:
        """Write it beside the verdict."""
        write_json(root / FILE, self.model_dump(mode="json"))


def verified(root: Path, environment: str, folder: Path) -> Prepared:
    """What a folder, laid out as a workspace, proposes for an environment.

    Raises UserError unless all of it is true of its bundle, evidence and lock, of a commit of the
    main line, which is checked out here, and of a verdict against the champion of now.
    """
    prepared, commit = _load(folder), git.commit(root, "HEAD")
    pins.accepted(root, folder)
    facts, settings = pins.of_folder(folder), params.load(Params, root)
    if commit not in git.git(root, "rev-list", "--first-parent", git.tip(root)).split():
        raise UserError(f"{commit[:12]}: not a commit of the main line; push or merge it first")
    if facts["model"] != settings.model:
        raise _wrong(BUNDLE, "name", facts["model"], settings.model)
    given = prepared.pin.model_dump()
    for key, expected in {**facts, "commit": commit}.items():
        if given[key] != expected:
            raise _wrong(FILE, f"pin.{key}", given[key], expected)
    named = {str(part): _dvc_name(folder / part) for part in PARTS}
    if named != dict(zip(named, given["dvc"].values(), strict=True)):
        raise _wrong(RECORD, "outs", given["dvc"], named)
    expected = environment, differences(root, folder)
    for key, value in zip(("environment", "differs"), expected, strict=True):
        if getattr(prepared, key) != value:
            raise _wrong(FILE, key, getattr(prepared, key), value)
    return prepared


def _wrong(place: Path, key: str, found: object, expected: object) -> UserError:
    said = f"found {documents.shown(found)}, expected {documents.shown(expected)}"
    return UserError(f"{place}: {key}: {said}; run main's build again")


def _load(folder: Path) -> Prepared:
    path = folder / FILE
    try:
        return Prepared.model_validate(read_json(path))
    except FileNotFoundError:
        raise UserError(f"{path}: not found; `mlops release ENV --prepare` writes it") from None
    except ValidationError as error:
        raise UserError(f"{path}: {documents.explain(error, Prepared)}") from None
    except ValueError as error:
        raise UserError(f"{path}: not JSON: {error}") from None


def require_plain(folder: Path) -> None:
    """Raise UserError where a folder has anything but the plain files of a prepared release."""
    for path in sorted(folder.rglob("*")):
        name, state = path.relative_to(folder).as_posix(), path.lstat()
        is_part = any(Path(name).is_relative_to(part) for part in PARTS)
        if stat.S_ISDIR(state.st_mode):
            continue
        if not (stat.S_ISREG(state.st_mode) and FILES.fullmatch(name)):
            raise UserError(f"{path}: found what is no file of a release")
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
    return found


def _causes(was: dict[str, Any], now: dict[str, Any]) -> tuple[Cause, ...]:
    before, after = _inputs(was), _inputs(now)
    changed = [name for name in {**before, **after} if before.get(name) != after.get(name)]
    if not changed:
        return () if was["outs"] == now["outs"] else ("machine",)
    causes = {_cause(name) for name in changed}
    return tuple(cause for cause in CAUSES if cause in causes)


def _inputs(stage: dict[str, Any]) -> dict[str, object]:
    """What a stage was made from, by file, and by `:`, file and key where it is parameters."""
    files = {dep["path"]: dep["md5"] for dep in stage["deps"]}
    keys = {f":{file}": values for file, values in stage.get("params", {}).items()}
    return {**files, **keys, "src/": stage["cmd"]}


def _cause(name: str) -> Cause | None:
    """The kind of an input; None for another stage's output."""
    if any(Path(name).is_relative_to(output) for output in WRITERS):
        return None
    if name == f":{params.FILE}":
        return "parameters"
    if name.startswith("src/"):
        return "code"
    return "lock" if name == "requirements.lock" else "data"


def _dvc_name(folder: Path) -> str:
    """DVC's name of a folder: the MD5 of the list of its files."""

    def md5(content: bytes) -> str:
        return hashlib.md5(content, usedforsecurity=False).hexdigest()

    files = [{"md5": md5((folder / name).read_bytes()), "relpath": name}
             for name in sorted(folder_digests(folder))]  # fmt: skip
    return f"{md5(json.dumps(files, sort_keys=True).encode())}.dir"


def keep(root: Path, folder: Path, pin: Pin) -> str:
    """Push bundle and evidence to Git's branch for them, each in the folder of its digest.

    Raises UserError for one that is too large for Git, and GitError when the push is not allowed.
    """
    limit, files = SIZE * params.load(Params, root).gate.size_mb, dict[Path, bytes]()
    for part, digest in zip(PARTS, (pin.digest, pin.evidence), strict=True):
        paths = [path for path in (folder / part).rglob("*") if path.is_file()]
        size = sum(path.stat().st_size for path in paths) / 1e6
        if size > limit:
            raise UserError(
                f"{part}: found {size:.1f} MB, expected at most {limit:g} MB, {SIZE} times "
                "gate.size_mb, on a Git branch; `dvc remote add --default NAME URL` keeps it there"
            )
        files |= {Path(digest) / path.relative_to(folder): path.read_bytes() for path in paths}

    def made(head: str) -> str:
        commit = git.write(root, head, files, f"Keep {pin.short}")
        same = head and git.git(root, "diff", "--name-only", head, commit) == ""
        return head if same else commit

    git.update(root, BRANCH, made)
    return f"kept on Git's branch {BRANCH}"
