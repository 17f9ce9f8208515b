"""The gate's answers on pins that a branch moves."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mlops.base.errors import Refused
from mlops.contract.params import load
from mlops.deploy import manifest
from mlops.deploy.manifest import Signer
from mlops.forge import git
from mlops.gitops import pins, signing, workspace_pin
from mlops.gitops.verdict import Rule
from mlops.pipeline.params import Params
from mlops.registry.pin import Pin


def rules(root: Path, base: str, candidate: str) -> Iterator[Rule]:
    """One answer for each environment whose manifest differs from the base's.

    A branch may pin what the main line has pinned before, nothing, or, where it changes pins
    alone, what main's own code makes; each as `release`, `promote` and `rollback` write it. A
    branch that changes more may pin its own candidate where `release.trust` is `pull-requests`.
    """
    manifests = {name: manifest.load(root, name) for name in manifest.names(root)}
    moved = pins.moved(root, base)
    before = {name: pins.before(root, base, name) for name in manifests if moved}
    earlier = [pin for known in before.values() for pin in known]
    for name in moved:
        pin, source = manifests[name].pin, manifests[name].promotion.source
        wrong = "" if pin is None or pin in earlier else _wrong(root, base, pin, earlier, candidate)
        known = pin is None or pin in before[name]
        if source and not (wrong or known) and pin != pins.pin_at(root, base, source):
            wrong = f"promotion.from: expected what {source} pins on main, or pinned here before"
        new = pin and pin.digest not in {old.digest for old in earlier}
        yield Rule(
            name=f"pin of {name}",
            found=f"{pin.digest[:12]}{', pinned nowhere before' * bool(new)}" if pin else "nothing",
            limit="what main makes, or pinned before",
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


def _wrong(root: Path, base: str, pin: Pin, earlier: list[Pin], candidate: str) -> str:
    """What is wrong with a pin that the main line has not had as it is; "" when nothing is."""
    same = [old for old in earlier if old.digest == pin.digest]
    if pin.digest == candidate:
        trusted = same or load(Params, root).release.trust != "main"
        if not trusted and not pins.only_pins_changed(root, base):
            return "this branch made these bytes, and main has not (release.trust)"
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

    facts = workspace_pin.of_folder(root)
    known = tracking.has_store(root) and versions.by_digest(root, facts["model"], pin.digest)
    is_ours = (
        git.exists(root, pin.commit)
        and git.is_ancestor(root, pin.commit, "HEAD")
        and all(git.is_ancestor(root, old.commit, pin.commit) for old in earlier)
    )
    facts["commit"] = pin.commit if is_ours else "the commit that made it"
    return facts | ({"version": known.number, "run": known.run} if known else {})
