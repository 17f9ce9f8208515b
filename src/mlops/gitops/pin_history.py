"""What Git says of the environments' pins: at a commit, over time, and on a branch by hand."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from mlops.base.errors import UserError
from mlops.deploy import manifest
from mlops.deploy.manifest import Manifest
from mlops.forge import git
from mlops.gitops.verdict import Rule
from mlops.registry.pin import Pin

LOCK = Path("dvc.lock")


def manifest_at(root: Path, commit: str, environment: str) -> tuple[Manifest, str]:
    """An environment's manifest at a commit, and its text. Raises UserError where it has none."""
    file = manifest.path(environment)
    place = f"{file} at {git.commit(root, commit)[:12]}"
    text = git.show(root, commit, file)
    if text is None:
        raise UserError(f"{place}: not found")
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


def only_pins_changed(root: Path, base: str) -> bool:
    """Whether nothing but pins differs from the base: there is no candidate to judge then."""
    changed = set(git.git(root, "diff", "--name-only", base).split()) - {str(LOCK)}
    return bool(changed) and changed <= {str(manifest.path(n)) for n in manifest.names(root)}


def rules(root: Path, base: str, candidate: str) -> Iterator[Rule]:
    """One answer for each environment whose pin differs from the base's.

    A branch may pin its own candidate, or what the main line has pinned before.
    """
    environments = manifest.names(root)
    allowed = {pin.digest for name in environments for _, pin in history(root, base, name) if pin}
    for name in environments:
        pin = manifest.load(root, name).pin
        if pin and pin != pin_at(root, base, name):
            yield Rule(
                name=f"pin of {name}",
                found=pin.digest[:12],
                limit="this candidate, or pinned before",
                passed=pin.digest in allowed | {candidate},
                why="nobody has judged these bytes; `mlops release` writes pins",
            )
