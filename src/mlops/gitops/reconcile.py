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
from mlops.gitops import pin_history
from mlops.registry import aliases, store
from mlops.registry.pin import Pin

# Two processes that reconcile the same environment here wait for each other.
LOCKS = Path(".run/reconcile")


def run(params: Params, root: Path, environment: str) -> Iterator[str]:
    """Do what is left to do, a line for each step. May be repeated, and repeated when killed.

    Raises UserError when the pinned bundle can't be fetched or fails its test, and Refused when
    it breaches a limit of its rollout; what ran runs on.
    """
    wanted = manifest.load(root, environment)
    (root / LOCKS / environment).mkdir(parents=True, exist_ok=True)
    with alone(root / LOCKS / environment):
        if wanted.pin:
            yield from _run_pinned(root, environment, wanted, wanted.pin)
        else:
            yield from _run_nothing(params, root, environment, wanted)


def _run_pinned(root: Path, environment: str, wanted: Manifest, pin: Pin) -> Iterator[str]:
    fetched = store.fetch(pin, root)
    yield f"{environment}: bundle {pin.digest[:12]} fetched and verified"
    yield from _deploy(root, environment, wanted, pin, fetched / BUNDLE)
    alias = aliases.alias(pin.model, root, environment)
    if alias is None or alias.digest != pin.digest:
        version = aliases.point(root, environment, pin, fetched)
        before = f", before it version {alias.number}" if alias else ""
        yield f"{environment}: registry alias points to version {version}{before}"
    yield f"{environment}: as {manifest.path(environment)} says"


def _deploy(
    root: Path, environment: str, wanted: Manifest, pin: Pin, bundle: Path
) -> Iterator[str]:
    from mlops.deploy.rollout import roll_out

    target, endpoint = deploy.named(wanted.target), endpoint_of(wanted, root, environment)
    before = target.current(endpoint)
    if before.traffic != {pin.digest: 100}:
        again = _ran_before(root, environment, pin)
        try:
            for step in roll_out(target, endpoint, pin, bundle, wanted.rollout, again):
                yield f"{environment}: {step}"
        except Refused as refused:
            raise Refused(f"{environment}: {refused}") from None
        replaced = [digest for digest, percent in before.traffic.items() if percent == 100]
        ended = f", before it {replaced[0][:12]}" if replaced else ""
        yield f"{environment}: {wanted.target} runs it{ended}"
    elif before.answers != "yes":
        target.deploy(endpoint, pin, bundle)
        yield f"{environment}: {wanted.target} runs it again"
    else:
        return
    address = target.current(endpoint).address
    if address:
        yield f"{environment}: answers at {address}"


def _run_nothing(params: Params, root: Path, environment: str, wanted: Manifest) -> Iterator[str]:
    target, endpoint = deploy.named(wanted.target), endpoint_of(wanted, root, environment)
    running = target.current(endpoint)
    for digest in running.traffic:
        target.remove(endpoint, digest)
    if running.traffic:
        yield f"{environment}: {wanted.target} runs nothing now, before it {shown(running)}"
    if aliases.alias(params.model, root, environment):
        aliases.drop(params.model, root, environment)
        yield f"{environment}: registry alias removed"
    yield f"{environment}: pins nothing, and nothing runs"


def check(params: Params, root: Path, environment: str) -> Iterator[str]:
    """Say that the world is as the manifest says; raises Refused with all that differs."""
    lines = differences(params, root, environment)
    if lines:
        raise Refused("; ".join(lines))
    yield f"{environment}: as {manifest.path(environment)} says"


def differences(params: Params, root: Path, environment: str) -> list[str]:
    """How the world differs from the manifest, a line each; changes nothing."""
    wanted = manifest.load(root, environment)
    running = deploy.named(wanted.target).current(endpoint_of(wanted, root, environment))
    alias = aliases.alias(model_of(wanted, params), root, environment)
    pinned = wanted.pin.digest if wanted.pin else None
    mirrored = alias.digest if alias else None
    lines = []
    if running.traffic != ({pinned: 100} if pinned else {}):
        note = f" ({running.note})" if running.note else ""
        lines.append(f"{wanted.target} runs {shown(running)}, pinned is {_short(pinned)}{note}")
    if mirrored != pinned:
        lines.append(f"registry alias {_short(mirrored)}, pinned is {_short(pinned)}")
    if running.answers == "no":
        lines.append(f"{wanted.target} runs {shown(running)}, and does not answer")
    return [f"{environment}: {line}" for line in lines]


def endpoint_of(wanted: Manifest, root: Path, environment: str) -> Endpoint:
    """The endpoint that a manifest names."""
    return Endpoint(environment, wanted.endpoint, root)


def model_of(wanted: Manifest, params: Params) -> str:
    """The registered model whose alias an environment is."""
    return wanted.pin.model if wanted.pin else params.model


def shown(running: Running) -> str:
    """The digest that runs, or several with their shares."""
    if len(running.traffic) == 1:
        return _short(next(iter(running.traffic)))
    shares = (f"{_short(digest)} {percent} %" for digest, percent in running.traffic.items())
    return ", ".join(shares) or "nothing"


def _ran_before(root: Path, environment: str, pin: Pin) -> bool:
    """Whether the main line pinned this, then something else, and now this again."""
    try:
        digests = [earlier.digest for _, earlier in pin_history.history(root, "HEAD", environment)]
    except UserError:
        return False
    return pin.digest in dropwhile(lambda digest: digest == pin.digest, digests)


def _short(digest: str | None) -> str:
    return digest[:12] if digest else "nothing"
