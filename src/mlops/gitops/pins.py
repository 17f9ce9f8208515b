"""What a branch pins by hand: it may put back what the main line pinned before, and nothing new."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from mlops.base.errors import UserError
from mlops.deploy import manifest
from mlops.forge import git
from mlops.gitops.verdict import Rule
from mlops.registry.pin import Pin

LOCK = "dvc.lock"


def rules(root: Path, base: str, candidate: str) -> Iterator[Rule]:
    """One rule for each environment whose pin differs from the base's."""
    known = {pin.digest for name in manifest.names(root) for _, pin in history(root, base, name)}
    for name in manifest.names(root):
        pin = manifest.load(root, name).pin
        if pin is None or pin == at(root, base, name):
            continue
        passed = pin.digest in known | {candidate}
        yield Rule(
            name=f"pin of {name}",
            found=pin.digest[:12],
            limit="this candidate, or pinned before",
            passed=passed,
            why="" if passed else "nobody has judged these bytes; `mlops release` writes pins",
        )


def only(root: Path, base: str) -> bool:
    """Whether nothing but pins differs from the base: there is no candidate to judge then."""
    names = git.git(root, "diff", "--name-only", base).split()
    changed = {name for name in names if name != LOCK}
    return bool(changed) and changed <= {manifest.path(n).as_posix() for n in manifest.names(root)}


def at(root: Path, commit: str, environment: str) -> Pin | None:
    """What an environment pins at a commit; None too where there is no manifest to be read."""
    text = git.show(root, commit, manifest.path(environment))
    try:
        return manifest.parse(text, environment).pin if text else None
    except UserError:
        return None


def history(root: Path, ref: str, environment: str) -> Iterator[tuple[git.Change, Pin]]:
    """What the main line up to `ref` has pinned, newest first; what can't be read is left out."""
    for change in git.changes(root, ref, manifest.path(environment)):
        pin = at(root, change.commit, environment)
        if pin:
            yield change, pin
