"""This machine as a target: a scoring process for each bundle, and a router in front of them.

Bundles lie below `.run/local/ENVIRONMENT/` by their digest, with the state that says which answers
how much; it is written only when a bundle has passed its test. A supervisor of its own keeps the
processes up, and outlives the verb that started it.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import msgspec

from mlops.base.errors import UserError
from mlops.base.files import alone, folder_digest, whole_folder
from mlops.deploy.local import control, smoke
from mlops.deploy.local.home import CURRENT, HOME, SAMPLES, STATE, Deployed, Home, State
from mlops.deploy.target import NO_MIRROR, Answer, Endpoint, Health, Row, Running

if TYPE_CHECKING:
    from mlops.registry.pin import Pin

# Below what systems hand out by themselves; the same wherever an endpoint has the same name.
FIRST_PORT, PORTS = 20_000, 10_000


def deploy(endpoint: Endpoint, pin: Pin, bundle: Path) -> None:
    """Place a bundle, test it in its place, then serve it beside what runs.

    Raises UserError, and leaves what runs, when it fails its test or its process does not come up.
    """
    home = _home(endpoint)
    home.folder.mkdir(parents=True, exist_ok=True)
    digest = folder_digest(bundle)
    # Around both, or another could remove what this one is about to name.
    with alone(endpoint.root / HOME):
        _place(home, bundle, digest)
        before = _with_bytes(home)
        _remove_unnamed(home, {*before.bundles, digest, SAMPLES})
        state = _with(before, digest, str(pin.version))
        home.save(replace(state, port=state.port or _port(endpoint)))
    try:
        control.settle(home, digest)
    except UserError:
        if digest not in before.bundles:
            _forget(home, digest)
            shutil.rmtree(home.folder / digest, ignore_errors=True)
        raise


def traffic(
    endpoint: Endpoint, shares: Mapping[str, int], mirror: Mapping[str, int] = NO_MIRROR
) -> None:
    """Let the router send each bundle its percentage from now on."""
    home = _home(endpoint)
    with alone(endpoint.root / HOME):
        names = home.proved()
        percents = {names[digest]: share for digest, share in shares.items()}
        copied = {names[digest]: share for digest, share in mirror.items()}
        state = home.state() or State()
        bundles = {
            name: replace(one, percent=percents.get(name, 0), mirror=copied.get(name, 0))
            for name, one in state.bundles.items()
        }
        home.save(replace(state, bundles=bundles))
    control.settle(home)


def health(endpoint: Endpoint, digest: str) -> Health:
    """The router's counts for one bundle since its supervisor started it."""
    return control.ask(_home(endpoint), "GET", f"/health/{digest}", b"", Health)


def ask(endpoint: Endpoint, digest: str, rows: Sequence[Row]) -> Answer:
    """Send rows to this bundle's process, past the router."""
    body = msgspec.json.encode(list(rows))
    return control.ask(_home(endpoint), "POST", f"/ask/{digest}", body, Answer)


def current(endpoint: Endpoint) -> Running:
    """What is deployed: digests of the very bytes, and of what their processes say they serve."""
    home = _home(endpoint)
    state = home.state()
    if state is None:
        return Running({})
    status = control.status(home)
    served, answers = _served(home, status)
    shares: dict[str, int] = {}
    for digest, name in home.proved().items():
        # Bytes that were changed since are said before what was loaded of them.
        found = (served.get(name) or digest) if digest == name else digest
        shares[found] = shares.get(found, 0) + state.bundles[name].percent
    address = f"http://{control.LOOPBACK}:{status.port}" if status else ""
    return Running(shares, state.note, answers, address)


def remove(endpoint: Endpoint, digest: str) -> None:
    """Serve this one no more; without any, the supervisor ends."""
    home = _home(endpoint)
    name = home.proved().get(digest, digest)
    if _forget(home, name).bundles:
        control.settle(home)
        shutil.rmtree(home.folder / name, ignore_errors=True)
        return
    control.gone(home)
    for folder in (home.folder, home.processes):
        shutil.rmtree(folder, ignore_errors=True)


def note(endpoint: Endpoint, text: str) -> None:
    """Keep a line in the state."""
    home = _home(endpoint)
    with alone(endpoint.root / HOME):
        state = home.state()
        if state:
            home.save(replace(state, note=text))


def _served(
    home: Home, status: control.Status | None
) -> tuple[dict[str, str], Literal["yes", "no", "elsewhere"]]:
    """By the names of the bundles, the digests that their processes serve; whether all answer."""
    if not home.started_here():
        return {}, "elsewhere"
    processes = status.bundles if status else {}
    served = {name: control.digest_at(one.port) for name, one in processes.items()}
    return served, "yes" if served and all(served.values()) else "no"


def _place(home: Home, bundle: Path, digest: str) -> None:
    place = home.folder / digest
    if place.is_dir() and folder_digest(place) == digest:
        return
    with whole_folder(place) as folder:
        shutil.copytree(bundle, folder, dirs_exist_ok=True)
        smoke.test(folder)


def _with_bytes(home: Home) -> State:
    """The state, without what has lost its folder."""
    state = home.state() or State()
    there = {n: one for n, one in state.bundles.items() if (home.folder / n).is_dir()}
    return replace(state, bundles=there)


def _with(state: State, digest: str, version: str) -> State:
    alone_here = set(state.bundles) <= {digest}
    known = state.bundles.get(digest, Deployed(version=version))
    mine = replace(known, percent=100) if alone_here else known
    return replace(state, bundles={**state.bundles, digest: mine})


def _forget(home: Home, name: str) -> State:
    """The state without this one; no state when there is nothing else."""
    with alone(home.root / HOME):
        state = (home.state() or State()).without(name)
        if state.bundles:
            home.save(state)
        else:
            for file in (STATE, CURRENT):
                (home.folder / file).unlink(missing_ok=True)
    return state


def _remove_unnamed(home: Home, named: set[str]) -> None:
    for old in home.folder.iterdir():
        if old.is_dir() and old.name not in named:
            shutil.rmtree(old, ignore_errors=True)


def _port(endpoint: Endpoint) -> int:
    name = f"{endpoint.environment}/{endpoint.name}"
    return FIRST_PORT + int(hashlib.sha256(name.encode()).hexdigest(), 16) % PORTS


def _home(endpoint: Endpoint) -> Home:
    return Home(endpoint.root, endpoint.environment)
