"""Azure ML as a target: a managed online endpoint, with a deployment behind it for each bundle.

- A bundle is a custom model named `MODEL-bundle`, whose version is the beginning of the bundle's
  digest; a property, which Azure ML never alters, holds all of it. The deployment that mounts this
  model is named by the beginning of the digest too.
- The service's image is an environment, whose version is the beginning of the image's digest.
- A batch endpoint follows the online endpoint where `infra/azureml/batch-endpoint.yaml` exists: it
  scores files with the bundle's version in the workspace's MLflow registry.

The service's answers name the digest of the bytes that it has loaded: checked when it is deployed.
Azure Monitor counts requests and times them, but knows no scores.

Needed: the roles *AzureML Data Scientist* in the workspace and *Storage Blob Data Contributor* in
its storage account; the workspace must be able to pull the image.
"""

from __future__ import annotations

import datetime as dt
import os
import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import requests

from mlops.base.errors import UserError
from mlops.deploy import smoke_test, specification
from mlops.deploy.azureml import sdk
from mlops.deploy.azureml.sdk import FOLDER, Workspace
from mlops.deploy.specification import SHORT
from mlops.deploy.target import NO_MIRROR, Answer, Endpoint, Health, Row, Running
from mlops.registry.pin import Pin

DIGEST, NOTE = "mlops.bundle", "mlops.note"
# Characters of a tag's value, and the most of the traffic that is mirrored, in percent.
LONGEST_NOTE, MOST_MIRRORED = 256, 50
# Seconds to connect, and between two bytes of an answer.
TIMEOUT = (10.0, 30.0)
IDENTITY = "AZUREML_ENDPOINT_IDENTITY"
NEEDS = (*sdk.VARIABLES, specification.IMAGE)
READS = (
    "AZURE_CLIENT_ID", "AZURE_TENANT_ID", "AZURE_CLIENT_SECRET", "AZURE_FEDERATED_TOKEN_FILE",
    "AZUREML_CURRENT_CLOUD", "AZURE_AUTHORITY_HOST", "AZURE_SDK_CLOUD_CONF", sdk.PYTHON, IDENTITY,
)  # fmt: skip
# Each kind of resource, as the SDK calls it, with the file that specifies it.
FILES = {
    "environments": "environment.yaml",
    "models": "model.yaml",
    "online_endpoints": "endpoint.yaml",
    "online_deployments": "deployment.yaml",
    "batch_endpoints": "batch-endpoint.yaml",
    "batch_deployments": "batch-deployment.yaml",
}


def deploy(endpoint: Endpoint, pin: Pin, bundle: Path) -> None:
    """Run a bundle beside what runs, tested, with 0 % of the traffic; 100 % when it is alone."""
    workspace, specs = sdk.connect(endpoint.root), specifications(endpoint, pin, bundle)
    for kind, spec in specs.items():
        workspace.call(f"use {FOLDER / FILES[kind]}", "check", kind=kind, spec=spec)
    for kind in ("environments", "models", "online_endpoints"):
        _create(workspace, kind, specs[kind])
    created = _create(workspace, "online_deployments", specs["online_deployments"])
    try:
        smoke_test.passes(bundle, pin.digest, f"{endpoint.name} in Azure ML",
                          lambda rows: _score(endpoint, pin.digest, rows))  # fmt: skip
    except UserError:
        if created:
            _delete(workspace, endpoint, specification.name_of(pin.digest))
        raise
    for kind in ("batch_endpoints", "batch_deployments"):
        if kind in specs:
            _create(workspace, kind, specs[kind])
    if not any(_found(workspace, endpoint)["traffic"].values()):
        traffic(endpoint, {pin.digest: 100})


def traffic(
    endpoint: Endpoint, shares: Mapping[str, int], mirror: Mapping[str, int] = NO_MIRROR
) -> None:
    """Give each digest its percentage; one may have copies of requests, of 50 % of them at most."""
    workspace = sdk.connect(endpoint.root)
    deployed = _deployed(_found(workspace, endpoint))
    endpoint.require_deployed((*shares, *mirror), deployed, "Azure ML")
    names = {digest: one["name"] for digest, one in deployed.items()}
    _update(
        workspace, endpoint, f"move the traffic of {endpoint.name}",
        traffic={names[digest]: share for digest, share in shares.items()},
        mirror_traffic={names[d]: min(share, MOST_MIRRORED) for d, share in mirror.items()},
    )  # fmt: skip
    for digest, share in shares.items():
        if share == 100:
            batch = f"{endpoint.name}-batch"
            workspace.call(
                f"change the default of {batch}", "update", kind="batch_endpoints", name=batch,
                fields={"defaults": {"deploymentName": names[digest]}},
            )  # fmt: skip


def health(endpoint: Endpoint, digest: str) -> Health:
    """Requests, errors and latency as Azure Monitor has them, of at most a day; no scores.

    Azure Monitor has the 95th percentile of each minute; of those that saw requests, the mean.
    """
    workspace = sdk.connect(endpoint.root)
    deployed = _deployed(_found(workspace, endpoint))
    endpoint.require_deployed([digest], deployed, "Azure ML")
    deployment = deployed[digest]
    by_code = _metric(workspace, deployment, "RequestsPerMinute",
                      filter="envoy_response_code eq '*'")  # fmt: skip
    timed = _metric(workspace, deployment, "RequestLatency_P95")
    latency = [value for _, values in timed for value in values if value]
    return Health(
        requests=round(sum(sum(counts) for _, counts in by_code)),
        # An answer that never came has the code 0.
        errors=round(sum(sum(counts) for code, counts in by_code if code[:1] in ("5", "0"))),
        seconds=sum(latency) / len(latency) / 1000 if latency else 0.0,
        refused=round(sum(sum(counts) for code, counts in by_code if code[:1] == "4")),
    )


def ask(endpoint: Endpoint, digest: str, rows: Sequence[Row]) -> Answer:
    """Let this very bundle score rows, whatever its share; Azure Monitor counts them too."""
    return smoke_test.timed(lambda: _score(endpoint, digest, rows))


def current(endpoint: Endpoint) -> Running:
    """What is deployed, by the digests that Azure ML never alters."""
    found = _state(sdk.connect(endpoint.root), endpoint)
    if found is None:
        return Running({})
    digests = {deployment["name"]: digest for digest, deployment in _deployed(found).items()}
    traffic = endpoint.by_digest(found["traffic"], digests, "Azure ML")
    return Running(traffic, found["tags"].get(NOTE, ""), address=found["scoring_uri"] or "")


def remove(endpoint: Endpoint, digest: str) -> None:
    """Run this one no more; the last one removes the endpoint. Raises UserError while it serves."""
    workspace, name = sdk.connect(endpoint.root), specification.name_of(digest)
    found, batch = _state(workspace, endpoint), f"{endpoint.name}-batch"
    if found is None or not any(one["name"] != name for one in found["deployments"]):
        for kind, place in (("batch_endpoints", batch), ("online_endpoints", endpoint.name)):
            workspace.call(f"remove the endpoint {place}", "delete", kind=kind, name=place)
        return
    endpoint.require_silent(digest, found["traffic"].get(name, 0), "Azure ML")
    _delete(workspace, endpoint, name)
    workspace.call(
        f"remove {name} of {batch}", "delete", kind="batch_deployments", name=name,
        endpoint_name=batch,
    )  # fmt: skip


def note(endpoint: Endpoint, text: str) -> None:
    """Keep a line among the endpoint's tags, "" for none."""
    workspace = sdk.connect(endpoint.root)
    tags = {**_found(workspace, endpoint)["tags"], NOTE: text[:LONGEST_NOTE]}
    if not text:
        del tags[NOTE]
    _update(workspace, endpoint, f"write a note on {endpoint.name}", tags=tags)


def specifications(endpoint: Endpoint, pin: Pin, bundle: Path) -> dict[str, dict[str, Any]]:
    """The filled-in specifications by kind, in the order of their creation."""
    image = specification.image()
    values = {
        "endpoint": endpoint.name,
        "deployment": specification.name_of(pin.digest),
        "model": pin.model,
        "asset": re.sub(r"[^A-Za-z0-9_-]", "-", pin.model) + "-bundle",
        "version": str(pin.version),
        "digest": pin.digest,
        "short": pin.digest[:SHORT],
        "bundle": str(bundle.resolve()),
        "image": image,
        "identity": os.environ.get(IDENTITY, ""),
        "image_version": image.rpartition(":")[2][:SHORT],
    }
    batches = (endpoint.root / FOLDER / FILES["batch_endpoints"]).exists()
    return {
        kind: specification.load(endpoint.root, FOLDER / file, values)
        for kind, file in FILES.items()
        if batches or "batch" not in kind
    }


def _create(workspace: Workspace, kind: str, spec: Mapping[str, Any]) -> bool:
    doing = f"create the {kind.removesuffix('s').replace('_', ' ')} {spec['name']}"
    return bool(workspace.call(doing, "create", kind=kind, spec=spec))


def _score(endpoint: Endpoint, digest: str, rows: Sequence[Row]) -> Any:
    """A deployment's answer, whatever its share; UserError for none, or of another bundle."""
    name, (url, key) = specification.name_of(digest), _access(endpoint)
    try:
        response = requests.post(
            url, json={"dataframe_records": list(rows)}, timeout=TIMEOUT,
            headers={"Authorization": f"Bearer {key}", "azureml-model-deployment": name},
        )  # fmt: skip
        response.raise_for_status()
        content = response.json()
    except (requests.RequestException, ValueError) as error:
        # The key may have been renewed: read it again next time.
        _access.cache_clear()
        reason = str(error).replace(key, "***")[:200]
        raise UserError(f"Azure ML: {name} does not answer: {reason}") from None
    # A proxy may drop the header; the reference rows must score as expected all the same.
    served = response.headers.get("x-model-digest", digest)
    if served != digest:
        raise UserError(f"Azure ML: {name} serves {served[:12]}, expected {digest[:12]}")
    return content


@lru_cache(maxsize=8)
def _access(endpoint: Endpoint) -> tuple[str, str]:
    """The URL and the key; read once, for hundreds of rows may be asked one by one."""
    workspace = sdk.connect(endpoint.root)
    access = workspace.call(f"read the keys of {endpoint.name}", "access", endpoint=endpoint.name)
    return access["url"], access["key"]


def _state(workspace: Workspace, endpoint: Endpoint) -> Any | None:
    """The endpoint with its deployments, as the driver's `state` has it."""
    return workspace.call(f"read {endpoint.name}", "state", endpoint=endpoint.name)


def _found(workspace: Workspace, endpoint: Endpoint) -> Any:
    found = _state(workspace, endpoint)
    if found is None:
        raise UserError(f"{endpoint.name}: found no such endpoint in Azure ML; `mlops reconcile`")
    return found


def _deployed(found: Any) -> dict[str, Any]:
    """An endpoint's deployments that are ready, by the digest of the bundle that each mounts."""
    deployed = {}
    for one in found["deployments"]:
        digest = str(((one["model"] or {}).get("properties") or {}).get(DIGEST, ""))
        passing = one["provisioning_state"] in ("Creating", "Failed", "Deleting")
        if digest and one["name"] == specification.name_of(digest) and not passing:
            deployed[digest] = one
    return deployed


def _metric(workspace: Workspace, deployment: Any, name: str, **query: str) -> Any:
    """A metric of each minute since the deployment was created, or for a day: no more is kept."""
    now = dt.datetime.now(tz=dt.UTC)
    start = now - dt.timedelta(days=1)
    if deployment["created"]:
        start = max(start, dt.datetime.fromisoformat(deployment["created"]).astimezone(dt.UTC))
    return workspace.call(
        f"read the metrics of {deployment['name']}", "metrics", resource=deployment["id"],
        metricnames=name, aggregation="Average", interval="PT1M",
        timespan=f"{start:%Y-%m-%dT%H:%M:%SZ}/{now:%Y-%m-%dT%H:%M:%SZ}", **query,
    )  # fmt: skip


def _update(workspace: Workspace, endpoint: Endpoint, doing: str, **fields: Any) -> None:
    workspace.call(doing, "update", kind="online_endpoints", name=endpoint.name, fields=fields)


def _delete(workspace: Workspace, endpoint: Endpoint, name: str) -> None:
    """Remove an online deployment, with its share of the traffic or of the copies."""
    found = _found(workspace, endpoint)
    fields = {field: {key: share for key, share in found[field].items() if key != name}
              for field in ("traffic", "mirror_traffic")}  # fmt: skip
    _update(workspace, endpoint, f"take the traffic from {name}", **fields)
    workspace.call(
        f"remove {name}", "delete", kind="online_deployments", name=name,
        endpoint_name=endpoint.name,
    )  # fmt: skip
