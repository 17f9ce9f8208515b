"""Reconcile: make the world what an environment's manifest says, or only say how it differs."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import dropwhile
from pathlib import Path

from mlops import deploy
from mlops.base.errors import Refused, UserError
from mlops.base.files import alone
from mlops.contract.params import Params
from mlops.contract.paths import BUNDLE
from mlops.deploy import manifest
from mlops.deploy.manifest import Manifest
from mlops.deploy.target import Endpoint, Running
from mlops.gitops import pins
from mlops.registry import aliases, store
from mlops.registry.pin import Pin

# Two that reconcile the same environment here wait for each other.
TURNS = Path(".run/reconcile")


def run(params: Params, root: Path, environment: str) -> Iterator[str]:
    """Do what is left to do, a line for each step. Safe to repeat, and to begin again when killed.

    Raises UserError when the pinned bundle can't be had or fails its test, and Refused when it
    breaches a limit of its rollout; what ran runs on.
    """
    wanted = manifest.load(root, environment)
    (root / TURNS / environment).mkdir(parents=True, exist_ok=True)
    with alone(root / TURNS / environment):
        if wanted.pin is None:
            yield from _nothing(params, root, environment, wanted)
        else:
            yield from _pinned(root, environment, wanted, wanted.pin)


def _pinned(root: Path, environment: str, wanted: Manifest, pin: Pin) -> Iterator[str]:
    fetched = store.fetch(pin, root)
    yield f"{environment}: bundle {pin.digest[:12]} fetched and verified"
    yield from _deployed(root, environment, wanted, pin, fetched / BUNDLE)
    alias = aliases.alias(pin.model, root, environment)
    if alias is None or alias.digest != pin.digest:
        version = aliases.point(root, environment, pin, fetched)
        before = _instead_of(f"version {alias.number}" if alias else None)
        yield f"{environment}: registry alias points to version {version}{before}"
    yield f"{environment}: as environments/{environment}.yaml says"


def _deployed(
    root: Path, environment: str, wanted: Manifest, pin: Pin, bundle: Path
) -> Iterator[str]:
    from mlops.deploy.rollout import roll_out

    target, endpoint = deploy.named(wanted.target), endpoint_of(wanted, root, environment)
    before = target.current(endpoint)
    if before.traffic != {pin.digest: 100}:
        back = _ran_before(root, environment, pin)
        steps = roll_out(target, endpoint, pin, bundle, wanted.rollout, back)
        try:
            yield from (f"{environment}: {step}" for step in steps)
        except Refused as refused:
            raise Refused(f"{environment}: {refused}") from None
        was = ran(before)
        yield f"{environment}: {wanted.target} runs it{_instead_of(was and _short(was))}"
    elif before.answers != "yes":
        target.deploy(endpoint, pin, bundle)
        yield f"{environment}: {wanted.target} runs it again"
    else:
        return
    address = target.current(endpoint).address
    if address:
        yield f"{environment}: answers at {address}"


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
    found = deploy.named(wanted.target).current(endpoint_of(wanted, root, environment))
    alias = aliases.alias(model_of(wanted, params), root, environment)
    lines = []
    if found.traffic != ({pinned: 100} if pinned else {}):
        note = f" ({found.note})" if found.note else ""
        lines.append(f"{wanted.target} runs {shown(found)}, pinned is {_name(pinned)}{note}")
    if (alias.digest if alias else None) != pinned:
        mirrored = _name(alias.digest if alias else None)
        lines.append(f"registry alias {mirrored}, pinned is {_name(pinned)}")
    if found.answers == "no":
        lines.append(f"{wanted.target} runs {shown(found)}, and does not answer")
    return [f"{environment}: {line}" for line in lines]


def endpoint_of(wanted: Manifest, root: Path, environment: str) -> Endpoint:
    """The place that a manifest speaks of."""
    return Endpoint(environment, wanted.endpoint, root)


def ran(found: Running) -> str | None:
    """The digest that answers every request; None when there is no such one."""
    return next((digest for digest, percent in found.traffic.items() if percent == 100), None)


def shown(found: Running) -> str:
    """What runs, in a few words: a digest, or several with their shares."""
    if len(found.traffic) == 1:
        return _name(next(iter(found.traffic)))
    shares = (f"{_short(digest)} {percent} %" for digest, percent in found.traffic.items())
    return ", ".join(shares) or "nothing"


def _nothing(params: Params, root: Path, environment: str, wanted: Manifest) -> Iterator[str]:
    target, endpoint = deploy.named(wanted.target), endpoint_of(wanted, root, environment)
    found = target.current(endpoint)
    for digest in found.traffic:
        target.remove(endpoint, digest)
    if found.traffic:
        yield f"{environment}: {wanted.target} runs nothing now, before it {shown(found)}"
    if aliases.alias(model_of(wanted, params), root, environment):
        aliases.drop(params.model, root, environment)
        yield f"{environment}: registry alias removed"
    yield f"{environment}: pins nothing, and nothing runs"


def _ran_before(root: Path, environment: str, pin: Pin) -> bool:
    """Whether the main line pinned this, then something else, and now this again."""
    try:
        pinned = [known.digest for _, known in pins.history(root, "HEAD", environment)]
    except UserError:
        return False
    return pin.digest in dropwhile(lambda digest: digest == pin.digest, pinned)


def model_of(wanted: Manifest, params: Params) -> str:
    """The registered model whose alias an environment is."""
    return wanted.pin.model if wanted.pin else params.model


def _name(digest: str | None) -> str:
    return _short(digest) if digest else "nothing"


def _short(digest: str) -> str:
    return digest[:12]


def _instead_of(before: str | None) -> str:
    return f", before it {before}" if before else ""
