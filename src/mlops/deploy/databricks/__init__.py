"""Databricks as a target: a Model Serving endpoint, a served entity for each registered version.

Databricks serves MLflow's model from Unity Catalog, not the bundle's folder: the digest is the tag
`mlops_bundle` of the version, which `register` sets when it makes the version from the bundle, and
the answers to the bundle's reference rows are compared when it is deployed. The bytes themselves
can't be read there. The registry that releases must be Unity Catalog, so that the pin's version, or
its copy in the manifest's `model`, is the one that is served.

The metrics are those of the last minute, and count no scores; requests can't be mirrored.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING

from mlops.base.errors import UserError, nearest
from mlops.deploy import manifest, prometheus, smoke_test, specification
from mlops.deploy.databricks import endpoint as api
from mlops.deploy.target import NO_MIRROR, Answer, Endpoint, Health, Row, Running
from mlops.registry.pin import Pin

if TYPE_CHECKING:
    from databricks.sdk.service.serving import ServedEntityInput, ServedEntityOutput

SPECIFICATION = Path("infra/databricks/served-entity.yaml")
NEEDS = ("DATABRICKS_HOST or DATABRICKS_CONFIG_PROFILE",)
READS = (
    "DATABRICKS_TOKEN", "DATABRICKS_CLIENT_ID", "DATABRICKS_CLIENT_SECRET", "DATABRICKS_AUTH_TYPE",
)  # fmt: skip
# The environment variable in which an entity keeps its bundle's digest.
DIGEST = "MLOPS_BUNDLE"
# The same among the version's tags.
DIGEST_TAG = "mlops_bundle"
NOTE, LONGEST_NOTE = "mlops_note", 255
COUNTS = ("request_count_total", "request_5xx_count_total", "request_4xx_count_total")


def deploy(endpoint: Endpoint, pin: Pin, bundle: Path) -> None:
    """Run a bundle beside what runs, tested, with 0 % of the traffic; 100 % when it is alone."""
    entity = _entity(endpoint, pin)
    name = str(entity.name)
    _require_digest(entity, pin.digest)
    before = api.find(endpoint.name)
    is_new = _serve(endpoint, entity, before)
    try:
        smoke_test.passes(bundle, pin.digest, f"{endpoint.name} in Databricks",
                          lambda rows: api.score(endpoint.name, name, rows))  # fmt: skip
    except UserError:
        if is_new:
            _withdraw(endpoint, name)
        elif _is_other(before.entities[name], entity):
            api.change(endpoint.name, before.entities, before.shares, f"put {name} back")
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
    served = _existing(endpoint)
    by_name = {specification.name_of(digest): share for digest, share in shares.items()}
    deployed = [digest for digest in shares if specification.name_of(digest) in served.entities]
    endpoint.require_deployed(shares, deployed, "Databricks")
    wanted = {name: by_name.get(name, 0) for name in served.entities}
    if wanted != {name: served.shares.get(name, 0) for name in served.entities}:
        operation = f"move the traffic of {endpoint.name}"
        api.change(endpoint.name, served.entities, wanted, operation)


def health(endpoint: Endpoint, digest: str) -> Health:
    """Requests, errors and latency of the last minute, all that Databricks exports; no scores."""
    name = specification.name_of(digest)
    counts, buckets = dict.fromkeys(COUNTS, 0.0), {}
    for sample in prometheus.samples(api.metrics(endpoint.name)):
        if name not in (sample.labels.get("served_model_name"),
                        sample.labels.get("served_entity_name")):  # fmt: skip
            continue
        if sample.name in counts:
            counts[sample.name] += sample.value
        elif sample.name == "request_latency_ms_bucket":
            buckets[float(sample.labels["le"])] = sample.value
    requests, errors, refused = map(round, counts.values())
    seconds = prometheus.quantile(0.95, buckets) / 1000
    return Health(requests, errors, seconds, refused=refused)


def ask(endpoint: Endpoint, digest: str, rows: Sequence[Row]) -> Answer:
    """Let this very version score rows, whatever its share; Databricks counts them too."""
    name = specification.name_of(digest)
    return smoke_test.timed(lambda: api.score(endpoint.name, name, list(rows)))


def current(endpoint: Endpoint) -> Running:
    """What is served, each digest as the version's tag in Unity Catalog has it."""
    served, digests, outdated = api.find(endpoint.name), {}, ""
    wanted = manifest.load(endpoint.root, endpoint.environment)
    pin = wanted.pin
    for name, entity in served.entities.items():
        digest = (entity.environment_vars or {}).get(DIGEST, "")
        if digest:
            _require_digest(entity, digest)
            digests[name] = digest
            model = pin and digest == pin.digest and (wanted.model or pin.model)
            if model and entity.entity_name != model:
                outdated = f"model: serves {entity.entity_name}, expected {model}"
    traffic = endpoint.by_digest(served.shares, digests, "Databricks")
    path = f"/serving-endpoints/{endpoint.name}/invocations"
    address = f"{api.client().config.host}{path}"
    return Running(traffic, served.tags.get(NOTE, ""), address=address, outdated=outdated)


def remove(endpoint: Endpoint, digest: str) -> None:
    """Stop serving this one; the last one removes the endpoint. Raises UserError with traffic."""
    name, served = specification.name_of(digest), api.find(endpoint.name)
    if set(served.entities) - {name}:
        endpoint.require_silent(digest, served.shares.get(name, 0), "Databricks")
    _withdraw(endpoint, name)


def note(endpoint: Endpoint, text: str) -> None:
    """Keep a line among the endpoint's tags, "" for none."""
    text = text[:LONGEST_NOTE]
    if _existing(endpoint).tags.get(NOTE, "") != text:
        api.tag(endpoint.name, NOTE, text)


def _entity(endpoint: Endpoint, pin: Pin) -> ServedEntityInput:
    """The specification, filled in. Raises UserError for an unknown key or a malformed name."""
    from databricks.sdk.service.serving import ServedEntityInput

    values = {
        "deployment": specification.name_of(pin.digest), "model": pin.model,
        "version": str(pin.version), "digest": pin.digest, "endpoint": endpoint.name,
    }  # fmt: skip
    content = specification.load(endpoint.root, SPECIFICATION, values)
    keys = [field.name for field in fields(ServedEntityInput)]
    for key in content:
        if key not in keys:
            raise UserError(f"{SPECIFICATION}: unknown key {key!r}{nearest(key, keys)}")
    model = content.get("entity_name", "")
    if len(str(model).split(".")) != 3:
        raise UserError(
            f"{SPECIFICATION}: entity_name: found {model!r}, expected CATALOG.SCHEMA.NAME"
        )
    return ServedEntityInput.from_dict(content)


def _serve(endpoint: Endpoint, entity: ServedEntityInput, served: api.Served) -> bool:
    """Serve an entity, with all of the traffic or, beside another, none; whether it is new.

    One that serves the same bundle as another version is replaced.
    """
    name = str(entity.name)
    if not served.entities:
        api.create(endpoint.name, entity)
        return True
    running = served.entities.get(name)
    state = running.state if running else None
    is_ready = bool(state and state.deployment and state.deployment.value == "DEPLOYMENT_READY")
    if running and is_ready and not _is_other(running, entity):
        return False
    shares = served.shares if set(served.entities) - {name} else {name: 100}
    operation = f"serve {name} behind {endpoint.name}"
    api.change(endpoint.name, {**served.entities, name: entity}, shares, operation)
    return not is_ready


def _is_other(
    running: ServedEntityInput | ServedEntityOutput, entity: ServedEntityInput
) -> bool:  # fmt: skip
    """Whether another registered version is served than an entity's."""
    versions = [(one.entity_name, str(one.entity_version)) for one in (running, entity)]
    return versions[0] != versions[1]


def _require_digest(entity: ServedEntityInput | ServedEntityOutput, digest: str) -> None:
    """Raise UserError unless the version that an entity serves was made from this bundle."""
    model, version = str(entity.entity_name), str(entity.entity_version)
    tagged = api.tags_of(model, version).get(DIGEST_TAG, "")
    if tagged != digest:
        raise UserError(
            f"Databricks: {model} version {version}: found tag {DIGEST_TAG}={tagged[:12]!r}, "
            f"expected {digest[:12]}; was it released from Unity Catalog?"
        )


def _existing(endpoint: Endpoint) -> api.Served:
    served = api.find(endpoint.name)
    if not served.entities:
        raise UserError(f"{endpoint.name}: found no such endpoint in Databricks; `mlops reconcile`")
    return served


def _withdraw(endpoint: Endpoint, name: str) -> None:
    """Serve all but this one; without another, delete the endpoint."""
    served = api.find(endpoint.name)
    others = {other: entity for other, entity in served.entities.items() if other != name}
    if not others:
        api.delete(endpoint.name)
    elif name in served.entities and not served.shares.get(name):
        operation = f"withdraw {name} from {endpoint.name}"
        api.change(endpoint.name, others, served.shares, operation)
