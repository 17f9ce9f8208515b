"""Databricks as a target: a Model Serving endpoint, a served entity for each registered version.

Databricks serves MLflow's model from Unity Catalog, not the bundle's folder: the digest is the tag
`mlops.bundle` of the version, which `register` sets when it makes the version from the bundle, and
the answers to the bundle's reference rows are compared when it is deployed. The bytes themselves
can't be read there. The registry that releases must be Unity Catalog, so that the pin's version is
the one that is served.

The metrics are those of the last minute, and count no scores; requests can't be mirrored.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from mlops.base.errors import UserError
from mlops.base.http import Doing
from mlops.deploy import prometheus, smoke_test, specification
from mlops.deploy.databricks import endpoint as api
from mlops.deploy.databricks.endpoint import MANAGE, Entity, Served, Workspace
from mlops.deploy.target import NO_MIRROR, Answer, Endpoint, Health, Row, Running
from mlops.pipeline.tracking import BUNDLE_TAG
from mlops.registry.pin import Pin

SPECIFICATION = Path("infra/databricks/served-entity.yaml")
# Where an entity keeps its bundle's digest.
DIGEST = "MLOPS_BUNDLE"
NOTE, LONGEST_NOTE = "mlops_note", 255


def deploy(endpoint: Endpoint, pin: Pin, bundle: Path) -> None:
    """Run a bundle beside what runs, tested, with 0 % of the traffic; 100 % when it is alone."""
    workspace, entity = api.here(), _entity(endpoint, pin)
    _require(workspace, entity, pin.digest)
    fresh = _served(workspace, endpoint, entity)
    try:
        smoke_test.passes(bundle, pin.digest, f"{endpoint.name} in Databricks",
                     lambda rows: workspace.score(endpoint.name, entity["name"], rows))  # fmt: skip
    except UserError:
        if fresh:
            _withdraw(workspace, endpoint, entity["name"])
        raise


def traffic(
    endpoint: Endpoint, shares: Mapping[str, int], mirror: Mapping[str, int] = NO_MIRROR
) -> None:
    """Give each digest its percentage. Raises UserError when requests are to be mirrored."""
    if any(mirror.values()):
        raise UserError(
            f"{endpoint.name}: Databricks mirrors no requests; rollout.shadow: found true, "
            "expected false"
        )
    workspace = api.here()
    served = _found(workspace, endpoint)
    names = {specification.name_of(digest): share for digest, share in shares.items()}
    for name in names:
        if name not in served.entities:
            raise UserError(f"{endpoint.name}: {name} is not served in Databricks")
    wanted = {name: names.get(name, 0) for name in served.entities}
    if wanted != {name: served.shares.get(name, 0) for name in served.entities}:
        doing = f"move the traffic of {endpoint.name}"
        _serve(workspace, endpoint, served.entities, wanted, doing)


def health(endpoint: Endpoint, digest: str) -> Health:
    """Requests, errors and latency of the last minute, all that Databricks gives out; no scores."""
    name = specification.name_of(digest)
    counts, buckets = {"request_count_total": 0.0, "request_5xx_count_total": 0.0}, {}
    for sample in prometheus.samples(api.here().metrics(endpoint.name)):
        if name not in (sample.labels.get("served_model_name"),
                        sample.labels.get("served_entity_name")):  # fmt: skip
            continue
        if sample.name in counts:
            counts[sample.name] += sample.value
        elif sample.name == "request_latency_ms_bucket":
            buckets[float(sample.labels["le"])] = sample.value
    requests, errors = counts.values()
    return Health(round(requests), round(errors), prometheus.quantile(0.95, buckets) / 1000)


def ask(endpoint: Endpoint, digest: str, rows: Sequence[Row]) -> Answer:
    """Let this very version score rows, whatever its share; Databricks counts them too."""
    workspace, name = api.here(), specification.name_of(digest)
    return smoke_test.timed(lambda: workspace.score(endpoint.name, name, list(rows)))


def current(endpoint: Endpoint) -> Running:
    """What is served, each digest as the version's tag in Unity Catalog has it."""
    workspace = api.here()
    served = workspace.find(endpoint.name)
    if served is None:
        return Running({})
    traffic = {}
    for name, entity in served.entities.items():
        digest = (entity.get("environment_vars") or {}).get(DIGEST, "")
        if digest:
            _require(workspace, entity, digest)
            traffic[digest] = served.shares.get(name, 0)
        elif served.shares.get(name):
            raise UserError(
                f"{endpoint.name}: {name} answers requests in Databricks, and is none of a "
                "bundle's; take its traffic away"
            )
    address = workspace.address(endpoint.name)
    return Running(traffic, served.tags.get(NOTE, ""), address=address)


def remove(endpoint: Endpoint, digest: str) -> None:
    """Run this one no more; the last one removes the endpoint. Raises UserError while it serves."""
    workspace, name = api.here(), specification.name_of(digest)
    served = workspace.find(endpoint.name)
    if served and set(served.entities) - {name} and served.shares.get(name):
        raise UserError(
            f"{endpoint.name}: bundle {digest[:12]} answers {served.shares[name]} % of the "
            "requests in Databricks, expected 0 before it is removed"
        )
    _withdraw(workspace, endpoint, name)


def note(endpoint: Endpoint, text: str) -> None:
    """Keep a line among the endpoint's tags, "" for none."""
    workspace, text = api.here(), text[:LONGEST_NOTE]
    if _found(workspace, endpoint).tags.get(NOTE, "") != text:
        workspace.tag(endpoint.name, NOTE, text)


def _entity(endpoint: Endpoint, pin: Pin) -> Entity:
    values = {
        "deployment": specification.name_of(pin.digest), "model": pin.model,
        "version": str(pin.version), "digest": pin.digest, "endpoint": endpoint.name,
    }  # fmt: skip
    entity = specification.load(endpoint.root, SPECIFICATION, values)
    model = entity.get("entity_name", "")
    if len(str(model).split(".")) != 3:
        raise UserError(
            f"{SPECIFICATION}: entity_name: found {model!r}, expected CATALOG.SCHEMA.NAME"
        )
    return entity


def _served(workspace: Workspace, endpoint: Endpoint, entity: Entity) -> bool:
    """Have an entity served, alone with everything or else with nothing; whether it was not yet."""
    served, name = workspace.find(endpoint.name), entity["name"]
    if served is None:
        workspace.create(endpoint.name, entity)
        return True
    state = (served.entities.get(name, {}).get("state") or {}).get("deployment")
    if state == "DEPLOYMENT_READY":
        return False
    shares = served.shares if set(served.entities) - {name} else {name: 100}
    _serve(workspace, endpoint, served.entities | {name: entity}, shares,
           f"serve {name} behind {endpoint.name}")  # fmt: skip
    return True


def _require(workspace: Workspace, entity: Entity, digest: str) -> None:
    """Raises UserError unless the version that an entity serves was made from this bundle."""
    model, version = entity["entity_name"], str(entity["entity_version"])
    found = workspace.tags_of(model, version).get(BUNDLE_TAG, "")
    if found != digest:
        raise UserError(
            f"Databricks: {model} version {version}: found tag {BUNDLE_TAG}={found[:12]!r}, "
            f"expected {digest[:12]}; was it released from Unity Catalog?"
        )


def _found(workspace: Workspace, endpoint: Endpoint) -> Served:
    served = workspace.find(endpoint.name)
    if served is None:
        raise UserError(f"{endpoint.name}: found no such endpoint in Databricks; `mlops reconcile`")
    return served


def _serve(
    workspace: Workspace, endpoint: Endpoint, entities: Mapping[str, Entity],
    shares: Mapping[str, int], doing: str,
) -> None:  # fmt: skip
    workspace.change(endpoint.name, entities, shares, Doing(doing, MANAGE))


def _withdraw(workspace: Workspace, endpoint: Endpoint, name: str) -> None:
    """Serve all but this one; without another there is no endpoint."""
    served = workspace.find(endpoint.name)
    if served is None:
        return
    rest = {other: entity for other, entity in served.entities.items() if other != name}
    if not rest:
        workspace.delete(endpoint.name)
    elif name in served.entities and not served.shares.get(name):
        _serve(workspace, endpoint, rest, served.shares, f"withdraw {name} from {endpoint.name}")
