"""Azure ML as a target: a managed online endpoint, a deployment behind it for each bundle.

A deployment is named by the beginning of its bundle's digest and holds all of it in a property,
which Azure ML never alters; the model that it mounts holds it too. What the service says of the
bytes themselves, in the header of its answers, is checked when it is deployed. Azure Monitor
counts requests and times them, but no scores: only those of rows that it is asked are known.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from mlops.base.errors import UserError
from mlops.base.http import Doing
from mlops.deploy import smoke_test, specification
from mlops.deploy.azureml import answers, batch, bodies
from mlops.deploy.azureml import workspace as assets
from mlops.deploy.azureml.workspace import ROLE, Workspace
from mlops.deploy.target import NO_MIRROR, Answer, Endpoint, Health, Row, Running
from mlops.registry.pin import Pin

NOTE = "mlops.note"
# Characters of a tag, and the most of the traffic that is mirrored.
LONGEST_NOTE, MOST_MIRRORED = 256, 50
# A deployment that is not there yet, never will be, or is there no more.
PASSING = ("Creating", "Failed", "Deleting")
# What can be written of an endpoint; the rest is Azure's own.
WRITABLE = ("authMode", "description", "properties", "publicNetworkAccess", "compute",
            "traffic", "mirrorTraffic")  # fmt: skip


def deploy(endpoint: Endpoint, pin: Pin, bundle: Path) -> None:
    """Run a bundle beside what runs, tested, with 0 % of the traffic; 100 % when it is alone."""
    workspace, root = assets.here(), endpoint.root
    values = assets.values(endpoint.name, pin)
    location = _location(workspace)
    assets.environment(workspace, specification.load(root, bodies.place("environment"), values))
    assets.model(workspace, pin, bundle)
    if _find(workspace, endpoint) is None:
        spec = specification.load(root, bodies.place("endpoint"), values)
        workspace.arm.change("PUT", _path(workspace, endpoint), _doing("create", endpoint),
                             bodies.endpoint(spec, location))  # fmt: skip
    name = values["deployment"]
    spec = specification.load(root, bodies.place("deployment"), values)
    fresh = _deployed(workspace, endpoint, name, bodies.deployment(spec, workspace, location))
    try:
        deployed = answers.reach(workspace, _path(workspace, endpoint), pin.digest)
        smoke_test.passes(bundle, pin.digest, f"{endpoint.name} in Azure ML", deployed.score)
    except UserError:
        if fresh:
            _delete(workspace, endpoint, name)
        raise
    batch.deploy(workspace, endpoint, values, location)
    if not any(_traffic(_found(workspace, endpoint)).values()):
        traffic(endpoint, {pin.digest: 100})


def traffic(
    endpoint: Endpoint, shares: Mapping[str, int], mirror: Mapping[str, int] = NO_MIRROR
) -> None:
    """Give each digest its percentage; one may have copies of requests, at most of 50 % of them."""
    workspace = assets.here()
    known = _digests(workspace, endpoint)
    for digest in (*shares, *mirror):
        if digest not in known.values():
            raise UserError(f"{endpoint.name}: bundle {digest[:12]} is not deployed in Azure ML")
    if len(mirror) > 1:
        raise UserError(
            f"{endpoint.name}: found requests mirrored to {len(mirror)} bundles, expected at most "
            "one in Azure ML"
        )
    _change(
        workspace, endpoint, f"move the traffic of {endpoint.name}",
        traffic={name: shares.get(digest, 0) for name, digest in known.items()},
        mirrorTraffic={
            specification.name_of(digest): min(share, MOST_MIRRORED)
            for digest, share in mirror.items()
        },
    )  # fmt: skip
    for digest, share in shares.items():
        if share == 100:
            batch.prefer(workspace, endpoint, specification.name_of(digest))


def health(endpoint: Endpoint, digest: str) -> Health:
    """Requests, errors and latency as Azure Monitor has them, of at most a day; no scores."""
    workspace = assets.here()
    return answers.health(workspace, _path(workspace, endpoint, specification.name_of(digest)))


def ask(endpoint: Endpoint, digest: str, rows: Sequence[Row]) -> Answer:
    """Let this very bundle score rows, whatever its share; Azure Monitor counts them too."""
    answer = smoke_test.timed(lambda: reached(endpoint, digest).score(rows))
    # A key that was renewed meanwhile is read anew.
    if not answer.scores:
        reached.cache_clear()
    return answer


@lru_cache(maxsize=16)
def reached(endpoint: Endpoint, digest: str) -> answers.Deployed:
    """A deployment to ask; found once, for hundreds of rows may be asked one by one."""
    workspace = assets.here()
    return answers.reach(workspace, _path(workspace, endpoint), digest)


def current(endpoint: Endpoint) -> Running:
    """What is deployed, by the digests that Azure ML never alters."""
    workspace = assets.here()
    found = _find(workspace, endpoint)
    if found is None:
        return Running({})
    shares = _traffic(found)
    known = _digests(workspace, endpoint)
    strange = sorted(name for name, share in shares.items() if share and name not in known)
    if strange:
        raise UserError(
            f"{endpoint.name}: deployment {strange[0]!r} answers requests in Azure ML, and is none "
            "of a bundle's; take its traffic away"
        )
    note = str((found.get("tags") or {}).get(NOTE, ""))
    traffic = {digest: shares.get(name, 0) for name, digest in known.items()}
    return Running(traffic, note, address=str(found["properties"].get("scoringUri") or ""))


def remove(endpoint: Endpoint, digest: str) -> None:
    """Run this one no more; the last one removes the endpoint. Raises UserError while it serves."""
    workspace, name = assets.here(), specification.name_of(digest)
    found = _find(workspace, endpoint)
    if found is None:
        batch.remove(workspace, endpoint)
        return
    others = [d["name"] for d in _deployments(workspace, endpoint) if d["name"] != name]
    if not others:
        batch.remove(workspace, endpoint)
        workspace.arm.change("DELETE", _path(workspace, endpoint), _doing("remove", endpoint))
        return
    if _traffic(found).get(name):
        raise UserError(
            f"{endpoint.name}: bundle {digest[:12]} answers {_traffic(found)[name]} % of the "
            "requests in Azure ML, expected 0 before it is removed"
        )
    _delete(workspace, endpoint, name)
    batch.remove(workspace, endpoint, name)


def note(endpoint: Endpoint, text: str) -> None:
    """Keep a line among the endpoint's tags, "" for none."""
    workspace = assets.here()
    tags = {k: v for k, v in (_found(workspace, endpoint).get("tags") or {}).items() if k != NOTE}
    said = {NOTE: text[:LONGEST_NOTE]} if text else {}
    _change(workspace, endpoint, f"write a note on {endpoint.name}", tags=tags | said)


def _path(workspace: Workspace, endpoint: Endpoint, name: str = "") -> str:
    below = ("deployments", name) if name else ()
    return workspace.path("onlineEndpoints", endpoint.name, *below)


def _doing(what: str, endpoint: Endpoint) -> Doing:
    return Doing(f"{what} the endpoint {endpoint.name}", ROLE)


def _location(workspace: Workspace) -> str:
    return str(
        workspace.arm.send("GET", workspace.id, Doing("find the workspace", ROLE))["location"]
    )


def _find(workspace: Workspace, endpoint: Endpoint) -> Any | None:
    return workspace.arm.find(_path(workspace, endpoint), _doing("find", endpoint))


def _found(workspace: Workspace, endpoint: Endpoint) -> Any:
    return workspace.arm.send("GET", _path(workspace, endpoint), _doing("find", endpoint))


def _traffic(found: Any) -> dict[str, int]:
    return dict(found["properties"].get("traffic") or {})


def _deployments(workspace: Workspace, endpoint: Endpoint) -> list[Any]:
    doing = Doing(f"list the deployments of {endpoint.name}", ROLE)
    return list(workspace.arm.every(f"{_path(workspace, endpoint)}/deployments", doing))


def _digests(workspace: Workspace, endpoint: Endpoint) -> dict[str, str]:
    """The bundles that are ready, by their deployments' names.

    Raises UserError where a deployment and the model that it mounts name two digests.
    """
    known = {}
    for deployed in _deployments(workspace, endpoint):
        digest = assets.digest_of(deployed)
        if not digest or deployed["properties"].get("provisioningState") in PASSING:
            continue
        model = deployed["properties"]["model"]
        doing = Doing(f"read the model of {deployed['name']}", ROLE)
        mounted = assets.digest_of(workspace.arm.send("GET", model, doing))
        if mounted != digest:
            raise UserError(
                f"{endpoint.name}: deployment {deployed['name']} in Azure ML mounts "
                f"{mounted[:12]}, expected {digest[:12]}"
            )
        known[deployed["name"]] = digest
    return known


def _deployed(workspace: Workspace, endpoint: Endpoint, name: str, content: dict[str, Any]) -> bool:
    """Have a deployment run; whether it did not before."""
    path, doing = _path(workspace, endpoint, name), Doing(f"deploy {name}", ROLE)
    known = workspace.arm.find(path, doing)
    state = known["properties"].get("provisioningState") if known else None
    # One that failed keeps what it failed with.
    if state == "Failed":
        _delete(workspace, endpoint, name)
    if state != "Succeeded":
        workspace.arm.change("PUT", path, doing, content)
    return state != "Succeeded"


def _delete(workspace: Workspace, endpoint: Endpoint, name: str) -> None:
    found = _found(workspace, endpoint)["properties"]
    shares, mirrored = found.get("traffic") or {}, found.get("mirrorTraffic") or {}
    if name in shares or name in mirrored:
        _change(
            workspace, endpoint, f"take the traffic from {name}",
            traffic={k: v for k, v in shares.items() if k != name},
            mirrorTraffic={k: v for k, v in mirrored.items() if k != name},
        )  # fmt: skip
    doing = Doing(f"remove {name}", ROLE)
    workspace.arm.change("DELETE", _path(workspace, endpoint, name), doing)


def _change(
    workspace: Workspace, endpoint: Endpoint, doing: str, tags: Any = None, **properties: Any
) -> None:
    """Write the endpoint anew with something changed: a smaller request can't change traffic."""
    found = _found(workspace, endpoint)
    kept = {k: v for k, v in found["properties"].items() if k in WRITABLE and v is not None}
    identity = {"identity": {"type": found["identity"]["type"]}} if found.get("identity") else {}
    content = {
        "location": found["location"],
        "tags": found.get("tags") or {} if tags is None else tags,
        "properties": kept | properties,
        **identity,
    }
    if content["properties"] != kept or content["tags"] != (found.get("tags") or {}):
        workspace.arm.change("PUT", _path(workspace, endpoint), Doing(doing, ROLE), content)
