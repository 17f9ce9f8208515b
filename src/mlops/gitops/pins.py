"""The environments' pins, as Git has them: at a commit, over time, and what a branch changes."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import takewhile
from pathlib import Path
from typing import Any

from mlops.base import documents
from mlops.base.errors import UserError, nearest
from mlops.contract.paths import BUNDLE, EVIDENCE
from mlops.contract.stages import RECORD
from mlops.deploy import manifest
from mlops.deploy.manifest import Manifest
from mlops.forge import git
from mlops.gitops import judges
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


def before(root: Path, ref: str, environment: str) -> list[Pin]:
    """What the main line up to `ref` has pinned, newest first."""
    return [pin for _, pin in history(root, ref, environment) if pin]


def pinned_since(root: Path, ref: str, environment: str, digest: str) -> int | None:
    """When the main line up to `ref` began to pin these bytes without a break, in seconds."""
    same = takewhile(lambda move: move[1] and move[1].digest == digest,
                     history(root, ref, environment))  # fmt: skip
    return min((change.time for change, _ in same), default=None)


def only_pins_changed(root: Path, base: str) -> bool:
    """Whether nothing but pins differs from the base."""
    names = git.changed(root, base)
    changed = set(but_record(names))
    files = {str(manifest.path(name)): name for name in manifest.names(root)}
    if not changed or changed - set(files) or rewritten(root, base) or judges.changed(root, base):
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


def only_known_pins_changed(root: Path, base: str) -> bool:
    """Whether a change of pins alone pins what main has pinned before: nothing is left to judge."""
    if not only_pins_changed(root, base):
        return False
    known = [pin for name in manifest.names(root) for pin in before(root, base, name)]
    pinned = (manifest.load(root, name).pin for name in moved(root, base))
    return all(pin is None or pin in known for pin in pinned)


def moved(root: Path, since: str) -> list[str]:
    """The environments whose manifest differs from the one at a commit; all when it is unknown."""
    environments = manifest.names(root)
    if not git.exists(root, since):
        return environments
    files = {name: manifest.path(name) for name in environments}
    return [
        name for name, file in files.items()
        if git.show(root, since, file) != (root / file).read_text()
    ]  # fmt: skip


def but_record(files: list[str]) -> list[str]:
    """Changed files but those that a release brings with a pin: the lock, and signatures."""
    beside = re.compile(rf"{re.escape(str(RECORD))}|{manifest.SIGNATURES}/[0-9a-f]{{64}}\.json")
    return [name for name in files if not beside.fullmatch(name)]


def _above_pin(root: Path, file: str, commit: str = "") -> str | None:
    """A manifest without its pin, as it lies here or at a commit; None where there is none."""
    text = git.show(root, commit, Path(file)) if commit else (root / file).read_text()
    return None if text is None else manifest.with_pin(text, None)


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
