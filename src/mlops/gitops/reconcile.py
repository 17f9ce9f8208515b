"""Reconcile: make the world what an environment's manifest says, or only say how it differs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from itertools import dropwhile
from pathlib import Path

from mlops import deploy
from mlops.base.environment import on_hosted_runner
from mlops.base.errors import Refused, UserError, one_line
from mlops.base.files import alone
from mlops.contract.bundle import read_card
from mlops.contract.params import Params
from mlops.contract.paths import BUNDLE
from mlops.deploy import inputs, manifest
from mlops.deploy.manifest import Manifest
from mlops.deploy.target import Endpoint, Running, Target
from mlops.gitops import pins, signing
from mlops.pipeline import tracking_server
from mlops.registry import register, store, versions
from mlops.registry.pin import Pin
from mlops.registry.versions import Version

# Two processes that reconcile the same environment here wait for each other.
LOCKS = Path(".run/reconcile")
# What is wrong with what runs, by `Running.answers`.
SILENT = {"no": "does not answer", "elsewhere": "is not seen to answer from here"}


def run(params: Params, root: Path, environment: str) -> Iterator[str]:
    """Do what is left to do, a line for each step. May be repeated, and repeated when killed.

    Raises UserError when the pinned bundle can't be fetched or fails its test, and Refused when
    it breaches a limit of its rollout; what ran runs on.
    """
    wanted = manifest.load(root, environment)
    deploy.require_settings(wanted.target, f"{manifest.path(environment)}: target")
    (root / LOCKS / environment).mkdir(parents=True, exist_ok=True)
    with alone(root / LOCKS / environment):
        try:
            for line in _steps(params, root, environment, wanted):
                yield f"{environment}: {line}"
        except Refused as refused:
            raise Refused(f"{environment}: {refused}") from None


def _steps(params: Params, root: Path, environment: str, wanted: Manifest) -> Iterator[str]:
    pin = wanted.pin
    if pin is None:
        yield from _run_nothing(params, root, environment, wanted)
        return
    fetched = store.fetch(pin, root)
    yield f"bundle {pin.digest[:12]} fetched and verified"
    _require_signature(root, environment, wanted, pin)
    if deploy.ends_with_job(wanted.target):
        yield from _rehearse(root, environment, wanted, pin, fetched / BUNDLE)
        return
    if wanted.model:
        if not keeps_alias(wanted):
            place = f"{manifest.path(environment)}: model"
            raise UserError(f"{place}: needs {tracking_server.VARIABLE}; this job's ends with it")
        number = _registered(root, wanted.model, pin, fetched)
        pin = pin.model_copy(update={"model": wanted.model, "version": number})
        yield f"registered as {pin.model} version {pin.version}"
    yield from _deploy(root, environment, wanted, pin, fetched / BUNDLE)
    before = alias(wanted, params, root, environment)
    if not keeps_alias(wanted):
        yield f"no registry alias: without {tracking_server.VARIABLE} it ends with this job"
    elif before is None or before.digest != pin.digest:
        number = _registered(root, pin.model, pin, fetched)
        versions.set_alias(root, pin.model, environment, number)
        was = f", before it version {before.number}" if before else ""
        other = f" (registered here; the pin says version {pin.version})"
        yield f"registry alias points to version {number}{other * (number != pin.version)}{was}"
    yield f"as {manifest.path(environment)} says"


def _registered(root: Path, model: str, pin: Pin, fetched: Path) -> int:
    """The version of a registered model that has the pin's very bytes, registered there once."""
    known = versions.by_digest(root, model, pin.digest)
    return known.number if known else register.adopt(root, fetched, pin.commit, model)


def _require_signature(root: Path, environment: str, wanted: Manifest, pin: Pin) -> None:
    """Raise Refused, and let the target note why, unless the manifest's signer has signed it."""
    try:
        signing.require(root, pin.digest, wanted.signer)
    except Refused as refused:
        endpoint = Endpoint(environment, wanted.endpoint, root)
        _note(deploy.named(wanted.target), endpoint, f"{pin.digest[:12]} not deployed: {refused}")
        raise


def _rehearse(
    root: Path, environment: str, wanted: Manifest, pin: Pin, bundle: Path
) -> Iterator[str]:
    """Deploy as anywhere, beside what was pinned before, then end all of it."""
    target, endpoint = deploy.named(wanted.target), Endpoint(environment, wanted.endpoint, root)
    _remove_all(target, endpoint)
    try:
        others = (one for one in _earlier_pins(root, environment) if one.digest != pin.digest)
        if before := next(others, None):
            line = f"{before.digest[:12]}, pinned before, runs first"
            try:
                target.deploy(endpoint, before, store.fetch(before, root) / BUNDLE)
            except UserError as error:
                line = f"not compared with {before.digest[:12]}, pinned before: {error}"
            yield f"rehearsal: {line}"
        for line in _deploy(root, environment, wanted, pin, bundle):
            yield f"rehearsal: {line}"
    finally:
        _remove_all(target, endpoint)
    yield "rehearsed on this runner, and ended: nothing runs after this job, no alias was moved"


def _remove_all(target: Target, endpoint: Endpoint) -> Running:
    """Run nothing at the endpoint; what ran before."""
    before = target.current(endpoint)
    for digest in before.traffic:
        target.remove(endpoint, digest)
    return before


def _deploy(
    root: Path, environment: str, wanted: Manifest, pin: Pin, bundle: Path
) -> Iterator[str]:
    from mlops.deploy.rollout import ran_before, roll_out

    target, endpoint = deploy.named(wanted.target), Endpoint(environment, wanted.endpoint, root)
    before = target.current(endpoint)
    if before.traffic != {pin.digest: 100}:
        earlier = _earlier_pins(root, environment)
        again = _ran_before(earlier, pin)
        changes = _changes(root, ran_before(before, pin.digest), earlier, bundle)
        if changes and not (again or wanted.breaking):
            place = manifest.path(environment)
            cure = f"declare them OPTIONAL or RETIRED, or say `breaking: REASON` in {place}"
            _note(target, endpoint, f"{pin.digest[:12]} not deployed: {changes}; {cure}")
            raise Refused(f"{changes}; {cure}")
        if changes:
            yield changes
        try:
            yield from roll_out(target, endpoint, pin, bundle, wanted.rollout, again)
        except UserError as error:
            _note(target, endpoint, f"{pin.digest[:12]} not deployed: {one_line(error)}")
            raise
        replaced = [digest for digest, percent in before.traffic.items() if percent == 100]
        ended = f", before it {replaced[0][:12]}" if replaced else ""
        yield f"{wanted.target} runs it{ended}"
    elif before.answers != "yes" or before.outdated:
        target.deploy(endpoint, pin, bundle)
        yield f"{wanted.target} runs it again{', as the manifest says now' * bool(before.outdated)}"
    else:
        if before.note:
            # Why another bundle does not run here says nothing of this one.
            target.note(endpoint, "")
        return
    address = target.current(endpoint).address
    if address:
        yield f"answers at {address}"


def _note(target: Target, endpoint: Endpoint, text: str) -> None:
    """Keep why a version does not run, where the note does not say that a rollout is under way."""
    from mlops.deploy.rollout import IN_PROGRESS

    # What went wrong may be that the target is away.
    with suppress(UserError):
        now = target.current(endpoint)
        if now.traffic and not IN_PROGRESS.match(now.note):
            target.note(endpoint, text)


def _run_nothing(params: Params, root: Path, environment: str, wanted: Manifest) -> Iterator[str]:
    target, endpoint = deploy.named(wanted.target), Endpoint(environment, wanted.endpoint, root)
    before = _remove_all(target, endpoint)
    if before.traffic:
        yield f"{wanted.target} runs nothing now, before it {shown(before)}"
    if alias(wanted, params, root, environment):
        versions.set_alias(root, wanted.model or params.model, environment, None)
        yield "registry alias removed"
    yield "pins nothing, and nothing runs"


def check(params: Params, root: Path, environment: str) -> Iterator[str]:
    """Say that the world is as the manifest says; raises Refused with all that differs."""
    if lines := differences(params, root, environment):
        raise Refused("; ".join(lines))
    wanted = manifest.load(root, environment)
    address = running(wanted, root, environment).address
    answers = f", answers at {address}" if address else ""
    unmirrored = "" if keeps_alias(wanted) else "; no registry outlives this job"
    yield f"{environment}: as {manifest.path(environment)} says{answers}{unmirrored}"


def differences(params: Params, root: Path, environment: str) -> list[str]:
    """How the world differs from the manifest, a line each; changes nothing."""
    wanted = manifest.load(root, environment)
    now = running(wanted, root, environment)
    pinned, lines = wanted.pin.digest if wanted.pin else None, []
    if now.traffic != ({pinned: 100} if pinned else {}):
        note = f" ({now.note})" if now.note else ""
        lines.append(f"{wanted.target} runs {shown(now)}, pinned is {_short(pinned)}{note}")
    if keeps_alias(wanted):
        version = alias(wanted, params, root, environment)
        mirrored = version.digest if version else None
        if mirrored != pinned:
            lines.append(f"registry alias {_short(mirrored)}, pinned is {_short(pinned)}")
    if now.outdated:
        lines.append(f"{wanted.target}: {now.outdated}")
    if now.answers != "yes":
        lines.append(f"{wanted.target} runs {shown(now)}, and {SILENT[now.answers]}")
    return [f"{environment}: {line}" for line in lines]


def running(wanted: Manifest, root: Path, environment: str) -> Running:
    """What runs at the endpoint that a manifest names."""
    if deploy.ends_with_job(wanted.target):
        place = manifest.path(environment)
        return Running({}, f"a hosted runner keeps no process; name another `target:` in {place}")
    return deploy.named(wanted.target).current(Endpoint(environment, wanted.endpoint, root))


def keeps_alias(wanted: Manifest) -> bool:
    """Whether a registry outlives this process, and something that its alias can name."""
    is_lost = on_hosted_runner() and not tracking_server.is_named()
    return not (is_lost or deploy.ends_with_job(wanted.target))


def alias(wanted: Manifest, params: Params, root: Path, environment: str) -> Version | None:
    """The version of the environment's alias; the model is the manifest's, or else the pin's."""
    model = wanted.model or (wanted.pin.model if wanted.pin else params.model)
    return versions.by_alias(root, model, environment)


def shown(running: Running) -> str:
    """The digest that runs, or several with their shares."""
    if len(running.traffic) == 1:
        return _short(next(iter(running.traffic)))
    shares = (f"{_short(digest)} {percent} %" for digest, percent in running.traffic.items())
    return ", ".join(shares) or "nothing"


def _changes(root: Path, running: str | None, earlier: list[Pin], bundle: Path) -> str:
    """What clients of the bundle that runs would notice of another, or why that is not known.

    "" where it is nothing, and for a bundle that was never pinned here.
    """
    pin = next((one for one in earlier if one.digest == running), None)
    if pin is None:
        return ""
    try:
        card = read_card(store.fetch(pin, root) / BUNDLE)
        changes = "; ".join(inputs.breaking(card, read_card(bundle)))
    except UserError as error:
        changes = f"columns not compared, {error}"
    return f"clients of bundle {pin.digest[:12]}: {changes}" if changes else ""


def _earlier_pins(root: Path, environment: str) -> list[Pin]:
    """What the main line has pinned, newest first; nothing where Git does not tell."""
    try:
        return pins.before(root, "HEAD", environment)
    except UserError:
        return []


def _ran_before(earlier: list[Pin], pin: Pin) -> bool:
    """Whether the main line pinned this, then something else, and now this again."""
    digests = [one.digest for one in earlier]
    return pin.digest in dropwhile(lambda digest: digest == pin.digest, digests)


def _short(digest: str | None) -> str:
    return digest[:12] if digest else "nothing"
