"""Reconcile: make the world what an environment's manifest says, or only say how it differs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from mlops.core.errors import Refused
from mlops.core.params import Params
from mlops.core.paths import BUNDLE
from mlops.deploy import TARGETS
from mlops.gitops import manifest, registry, store
from mlops.gitops.manifest import Manifest


def run(params: Params, root: Path, environment: str) -> Iterator[str]:
    """Do what is left to do, a line for each step. Safe to repeat, and to begin again when killed.

    Raises UserError when the pinned bundle can't be had or fails its test; what ran runs on.
    """
    wanted = manifest.load(root, environment)
    if wanted.pin is None:
        yield from _nothing(params, root, environment, wanted)
        return
    fetched = store.fetch(wanted.pin, params, root)
    yield f"{environment}: bundle {wanted.pin.digest[:12]} fetched and verified"
    running = TARGETS[wanted.target].current(environment, root)
    if running != wanted.pin.digest:
        TARGETS[wanted.target].deploy(environment, fetched / BUNDLE, root)
        yield f"{environment}: {wanted.target} runs it{_instead_of(running)}"
    alias = registry.alias(model_of(wanted, params), root, environment)
    if alias is None or alias.digest != wanted.pin.digest:
        version = registry.point(params, root, environment, wanted.pin, fetched)
        before = _instead_of(f"version {alias.version}" if alias else None)
        yield f"{environment}: registry alias points to version {version}{before}"
    yield f"{environment}: as environments/{environment}.yaml says"


def check(params: Params, root: Path, environment: str) -> Iterator[str]:
    """Say that the world is as the manifest says; raises Refused with all that differs."""
    found = differences(params, root, environment)
    if found:
        raise Refused("; ".join(found))
    yield f"{environment}: as environments/{environment}.yaml says"


def differences(params: Params, root: Path, environment: str) -> list[str]:
    """How the world differs from the manifest, a line each; changes nothing."""
    wanted = manifest.load(root, environment)
    pinned = wanted.pin.digest if wanted.pin else None
    running = TARGETS[wanted.target].current(environment, root)
    alias = registry.alias(model_of(wanted, params), root, environment)
    seen = {f"{wanted.target} runs": running, "registry alias": alias.digest if alias else None}
    return [
        f"{environment}: {where} {_name(found)}, pinned is {_name(pinned)}"
        for where, found in seen.items()
        if found != pinned
    ]


def _nothing(params: Params, root: Path, environment: str, wanted: Manifest) -> Iterator[str]:
    running = TARGETS[wanted.target].current(environment, root)
    if running:
        TARGETS[wanted.target].remove(environment, root)
        yield f"{environment}: {wanted.target} runs nothing now{_instead_of(running)}"
    if registry.alias(model_of(wanted, params), root, environment):
        registry.drop(params.model, root, environment)
        yield f"{environment}: registry alias removed"
    yield f"{environment}: pins nothing, and nothing runs"


def model_of(wanted: Manifest, params: Params) -> str:
    """The registered model whose alias an environment is."""
    return wanted.pin.model if wanted.pin else params.model


def _name(digest: str | None) -> str:
    return digest[:12] if digest else "nothing"


def _instead_of(before: str | None) -> str:
    return f", before it {before[:12]}" if before else ""
