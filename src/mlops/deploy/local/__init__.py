"""This machine as a target: a scoring process for each bundle, and a router in front of them.

Bundles lie below `.run/local/ENVIRONMENT/` by their digest, with the state that gives each its
share of the requests; a bundle is in the state only once it has passed its smoke test. The
environment's supervisor keeps the processes running, and outlives the command that started it.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from mlops.base.errors import UserError, one_line
from mlops.base.files import folder_digest, whole_folder
from mlops.base.processes import HOST, wait
from mlops.contract.bundle import Scorer, read_card
from mlops.deploy import manifest, prometheus, smoke_test
from mlops.deploy.local import control
from mlops.deploy.local.home import SAMPLES, Deployed, Home, State
from mlops.deploy.target import NO_MIRROR, Answer, Endpoint, Health, Row, Running

if TYPE_CHECKING:
    from mlops.registry.pin import Pin

# Below the ports that systems assign by themselves; an endpoint's name always has the same one.
FIRST_PORT, PORTS = 20_000, 10_000


def deploy(endpoint: Endpoint, pin: Pin, bundle: Path) -> None:
    """Copy a bundle, test the copy, then serve it beside what runs.

    Raises UserError, and leaves what runs, when it fails its test or its process does not come up.
    """
    home = _home(endpoint)
    home.folder.mkdir(parents=True, exist_ok=True)
    digest, options = folder_digest(bundle), _options(endpoint)
    before = home.state().bundles

    def with_copy(state: State) -> State:
        _copy(home, bundle, digest)
        for folder in home.folder.iterdir():
            if folder.is_dir() and folder.name not in {*state.bundles, digest, SAMPLES}:
                shutil.rmtree(folder, ignore_errors=True)
        deployed = state.bundles.get(digest, Deployed(version=str(pin.version)))
        deployed = replace(deployed, options=options)
        if set(state.bundles) <= {digest}:
            deployed = replace(deployed, percent=100)
        bundles = {**state.bundles, digest: deployed}
        return replace(state, bundles=bundles, port=state.port or _port(endpoint))

    home.change(with_copy)
    try:
        control.settle(home, digest)
    except UserError:
        if digest not in before:
            _forget(home, digest)
            shutil.rmtree(home.folder / digest, ignore_errors=True)
        else:
            # What ran with other options runs still.
            earlier = {digest: before[digest]}
            home.change(lambda state: replace(state, bundles={**state.bundles, **earlier}))
        raise


def traffic(
    endpoint: Endpoint, shares: Mapping[str, int], mirror: Mapping[str, int] = NO_MIRROR
) -> None:
    """Let the router send each bundle its percentage from now on."""
    home = _home(endpoint)
    digests = {name: digest for digest, name in home.names().items()}

    def with_shares(state: State) -> State:
        bundles = {}
        for name, one in state.bundles.items():
            percent, copied = (given.get(digests[name], 0) for given in (shares, mirror))
            bundles[name] = replace(one, percent=percent, mirror=copied)
        return replace(state, bundles=bundles)

    home.change(with_shares)
    control.settle(home)


def health(endpoint: Endpoint, digest: str) -> Health:
    """The router's counts for one bundle since its supervisor started it."""
    home = _home(endpoint)
    process = control.process(home, digest)
    try:
        metrics = control.call(home, process.port, "/metrics").decode()
        output = read_card(home.folder / digest).outputs[0]
        scores = prometheus.tenths(prometheus.samples(metrics), output)
    except UserError:
        scores = ()
    return Health(process.requests, process.errors, process.seconds, scores)


def ask(endpoint: Endpoint, digest: str, rows: Sequence[Row]) -> Answer:
    """Send rows to this bundle's process, past the router."""
    home = _home(endpoint)
    port = control.process(home, digest).port
    return smoke_test.timed(
        lambda: msgspec.json.decode(control.call(home, port, "/predict", list(rows)))
    )


def current(endpoint: Endpoint) -> Running:
    """What is deployed, by digests computed from the bytes, and whether all of it answers."""
    home = _home(endpoint)
    state = home.state()
    shares = {digest: state.bundles[name].percent for digest, name in home.names().items()}
    if not shares:
        return Running({})
    if not home.started_here():
        return Running(shares, state.note, "elsewhere")
    status = control.status(home)
    if status is None:
        return Running(shares, state.note, "no")
    all_answer = all(process.ready for process in status.bundles.values())
    address = f"http://{HOST}:{status.port}"
    expected = _options(endpoint)
    lines = [manifest.Serving.outdated(one.options, expected) for one in state.bundles.values()]
    outdated = next(filter(None, lines), "")
    return Running(shares, state.note, "yes" if all_answer else "no", address, outdated)


def remove(endpoint: Endpoint, digest: str) -> None:
    """Serve this bundle no more; the supervisor ends with the last one."""
    home = _home(endpoint)
    name = home.names().get(digest, digest)
    if _forget(home, name).bundles:
        control.settle(home)
        shutil.rmtree(home.folder / name, ignore_errors=True)
        return
    wait(lambda: not home.supervised(), seconds=control.SETTLE_SECONDS)
    for folder in (home.folder, home.processes):
        shutil.rmtree(folder, ignore_errors=True)


def note(endpoint: Endpoint, text: str) -> None:
    """Keep a line in the state."""
    _home(endpoint).change(lambda state: replace(state, note=text))


def _copy(home: Home, bundle: Path, digest: str) -> None:
    """Have a copy that has passed its smoke test; raises UserError when it fails."""
    copy = home.folder / digest
    if copy.is_dir() and folder_digest(copy) == digest:
        return
    with whole_folder(copy) as folder:
        shutil.copytree(bundle, folder, dirs_exist_ok=True)
        smoke_test.passes(folder, digest, "this machine", lambda rows: _score(folder, digest, rows))


def _score(folder: Path, digest: str, rows: Sequence[Row]) -> dict[str, Any]:
    import pandas as pd

    try:
        scores = Scorer(folder).predict(pd.DataFrame(rows))
    except Exception as error:  # ONNX Runtime has no common class for a model that it can't run.
        raise UserError(f"bundle {digest[:12]}: does not run here: {one_line(error)}") from None
    return {"predictions": scores.tolist()}


def _forget(home: Home, name: str) -> State:
    """The state without this bundle."""
    return home.change(
        lambda state: replace(
            state, bundles={key: one for key, one in state.bundles.items() if key != name}
        )
    )


def _options(endpoint: Endpoint) -> tuple[str, ...]:
    """The options by which a service looks features up; a file is below the service's folder."""
    named = (endpoint.root / manifest.path(endpoint.environment)).exists()
    loaded = manifest.load(endpoint.root, endpoint.environment) if named else None
    serving = loaded.serving if loaded else manifest.Serving()
    return tuple(serving.options(serving.place(endpoint.environment, Path())))


def _port(endpoint: Endpoint) -> int:
    name = f"{endpoint.environment}/{endpoint.name}"
    return FIRST_PORT + int(hashlib.sha256(name.encode()).hexdigest(), 16) % PORTS


def _home(endpoint: Endpoint) -> Home:
    return Home(endpoint.root, endpoint.environment)
