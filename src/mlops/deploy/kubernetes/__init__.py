"""Kubernetes as a target: a Deployment for each bundle, and a Gateway API route with their weights.

A pod fetches its bundle from DVC's remote and verifies every byte before it starts, so the digest
in its specification is the one that it serves. The service's own metrics tell how requests went,
scores included, for as long as its pods live. kubectl must be allowed to reach services and pods
through the cluster's proxy.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlops.base.errors import UserError
from mlops.deploy import prometheus, smoke_test, specification
from mlops.deploy.kubernetes import objects
from mlops.deploy.kubernetes.kubectl import Cluster
from mlops.deploy.kubernetes.objects import INSTANCE, OF_BUNDLE, OF_ENDPOINT, PART, PORT
from mlops.deploy.target import NO_MIRROR, Answer, Endpoint, Health, Row, Running
from mlops.registry.pin import Pin

if TYPE_CHECKING:
    from prometheus_client.samples import Sample

NEEDS, READS = (objects.STORE, specification.IMAGE), ("KUBECONFIG",)
NOTE = "mlops/note"
WAIT = "330s"
# Routes that score; the others are for whoever runs the service.
ROUTES = {"predict", "invocations", "v2 infer"}


def deploy(endpoint: Endpoint, pin: Pin, bundle: Path) -> None:
    """Run a bundle beside what runs, tested, with 0 % of the traffic; 100 % when it is alone."""
    cluster, name = _cluster(endpoint), objects.name(endpoint, pin.digest)
    before = cluster.find("deployment", name)
    cluster.apply(objects.of_endpoint(endpoint), f"prepare {endpoint.name}")
    cluster.apply(objects.of_bundle(endpoint, pin), f"deploy {name}")
    try:
        _wait(cluster, name)
        served = str(_model(cluster, name).get("digest", ""))
        if served != pin.digest:
            raise UserError(f"Kubernetes: {name} serves {served[:12]}, expected {pin.digest[:12]}")
        smoke_test.passes(bundle, pin.digest, f"{endpoint.name} in Kubernetes",
                          lambda rows: _score(cluster, name, rows))  # fmt: skip
    except UserError:
        if before is None:
            cluster.delete(OF_BUNDLE, f"{INSTANCE}={name}")
        raise
    route = cluster.find("httproute", endpoint.name)
    shares = objects.weights(route)
    alone = not any(shares.values())
    if name not in shares or alone:
        _route(endpoint, shares | {name: 100 if alone else 0}, objects.copies(route))


def traffic(
    endpoint: Endpoint, shares: Mapping[str, int], mirror: Mapping[str, int] = NO_MIRROR
) -> None:
    """Give each digest its percentage; `mirror` is of requests copied, the answers unserved."""
    cluster = _cluster(endpoint)
    digests = _digests(_deployments(cluster, endpoint))
    endpoint.require_deployed((*shares, *mirror), digests.values(), "Kubernetes")
    wanted = {name: shares.get(digest, 0) for name, digest in digests.items()}
    copied = {objects.name(endpoint, digest): share for digest, share in mirror.items() if share}
    route = cluster.find("httproute", endpoint.name)
    if (objects.weights(route), objects.copies(route)) != (wanted, copied):
        _route(endpoint, wanted, copied)


def health(endpoint: Endpoint, digest: str) -> Health:
    """The sum over a bundle's pods, by their own metrics, since each of them started."""
    cluster, name = _cluster(endpoint), objects.name(endpoint, digest)
    samples = [sample for pod in cluster.every("pod", f"{INSTANCE}={name}")
               for sample in _samples(cluster, pod["metadata"]["name"])]  # fmt: skip
    requests = errors = refused = 0.0
    buckets: dict[float, float] = defaultdict(float)
    for sample in samples:
        if sample.labels.get("route") not in ROUTES:
            continue
        if sample.name == "mlops_requests_total":
            requests += sample.value
            errors += sample.value * (int(sample.labels["status"]) >= 500)
            refused += sample.value * (400 <= int(sample.labels["status"]) < 500)
        elif sample.name == "mlops_request_seconds_bucket":
            buckets[float(sample.labels["le"])] += sample.value
    output = (_model(cluster, name).get("outputs") or [""])[0] if samples else ""
    scores = prometheus.tenths(samples, output)
    seconds = prometheus.quantile(0.95, buckets)
    return Health(int(requests), int(errors), seconds, scores, int(refused))


def ask(endpoint: Endpoint, digest: str, rows: Sequence[Row]) -> Answer:
    """Let this very bundle score rows, whatever its share; its metrics count them too.

    The time includes kubectl's own, for the running version as for the new one.
    """
    cluster, name = _cluster(endpoint), objects.name(endpoint, digest)
    return smoke_test.timed(lambda: _score(cluster, name, rows))


def current(endpoint: Endpoint) -> Running:
    """What is deployed and was ready, by the digests that pods verify their bytes by."""
    cluster = _cluster(endpoint)
    route = cluster.find("httproute", endpoint.name)
    shares, deployments = objects.weights(route), _deployments(cluster, endpoint)
    # A bundle is in the route once it has passed its smoke test.
    digests = {name: one for name, one in _digests(deployments).items() if name in shares}
    traffic = endpoint.by_digest(shares, digests, "Kubernetes")
    ready = {one["metadata"]["name"]: _answers(one) for one in deployments}
    silent = any(share and not ready[name] for name, share in shares.items())
    annotations = route["metadata"].get("annotations") or {} if route else {}
    lines = [objects.outdated(endpoint, one) for one in deployments
             if one["metadata"]["name"] in digests]  # fmt: skip
    outdated = next(filter(None, lines), "")
    return Running(traffic, annotations.get(NOTE, ""), "no" if silent else "yes", outdated=outdated)


def remove(endpoint: Endpoint, digest: str) -> None:
    """Run this one no more; the last one removes the endpoint. Raises UserError while it serves."""
    cluster, name = _cluster(endpoint), objects.name(endpoint, digest)
    if not any(one["metadata"]["name"] != name for one in _deployments(cluster, endpoint)):
        kinds = (*OF_ENDPOINT[:1], *OF_BUNDLE, *OF_ENDPOINT[1:])
        cluster.delete(kinds, f"{PART}={endpoint.name}")
        return
    route = cluster.find("httproute", endpoint.name)
    shares, copied = objects.weights(route), objects.copies(route)
    endpoint.require_silent(digest, shares.get(name, 0), "Kubernetes")
    if name in shares or name in copied:
        for backends in (shares, copied):
            backends.pop(name, None)
        _route(endpoint, shares, copied)
    cluster.delete(OF_BUNDLE, f"{INSTANCE}={name}")


def note(endpoint: Endpoint, text: str) -> None:
    """Keep a line among the annotations of the endpoint's route, "" for none."""
    cluster = _cluster(endpoint)
    route = cluster.find("httproute", endpoint.name)
    if route is None:
        raise UserError(f"{endpoint.name}: found no such route in Kubernetes; `mlops reconcile`")
    if (route["metadata"].get("annotations") or {}).get(NOTE, "") != text:
        cluster.annotate("httproute", endpoint.name, NOTE, text)


def _cluster(endpoint: Endpoint) -> Cluster:
    return Cluster(objects.namespace(endpoint))


def _deployments(cluster: Cluster, endpoint: Endpoint) -> list[Any]:
    return cluster.every("deployment", f"{PART}={endpoint.name}")


def _digests(deployments: Sequence[Any]) -> dict[str, str]:
    """The bundles' digests, by the names of their deployments."""
    digests = {one["metadata"]["name"]: objects.digest(one) for one in deployments}
    return {name: digest for name, digest in digests.items() if digest}


def _route(endpoint: Endpoint, shares: Mapping[str, int], mirror: Mapping[str, int]) -> None:
    document = objects.route(endpoint, shares, mirror)
    _cluster(endpoint).apply([document], f"move the traffic of {endpoint.name}")


def _wait(cluster: Cluster, name: str) -> None:
    """Wait until every pod is ready; raises UserError with what the cluster says keeps them."""
    try:
        cluster.run(
            ["rollout", "status", f"deployment/{name}", f"--timeout={WAIT}"], f"start {name}"
        )
    except UserError as error:
        reason = _reason(cluster, name)
        raise UserError(f"{error}{': ' + reason if reason else ''}") from None


def _reason(cluster: Cluster, name: str) -> str:
    """Why a deployment's pods don't start: a quota, an image, a bundle with another digest."""
    status = (cluster.find("deployment", name) or {}).get("status") or {}
    reasons = [one.get("message") for one in status.get("conditions") or []
               if one["type"] == "ReplicaFailure"]  # fmt: skip
    for pod in cluster.every("pod", f"{INSTANCE}={name}"):
        for key in ("initContainerStatuses", "containerStatuses"):
            for container in (pod.get("status") or {}).get(key) or []:
                states = {**container.get("state", {}), **container.get("lastState", {})}
                reasons += [one.get("message") or one.get("reason") for one in states.values()]
    return " ".join("; ".join(dict.fromkeys(filter(None, reasons))).split())[:200]


def _answers(deployment: Any) -> bool:
    """Whether pods answer, and all of them are of the specification that was applied last."""
    status = defaultdict(int, deployment.get("status") or {})
    # Of pods that an autoscaler adds none is old: what answers goes on answering.
    is_rolled_out = (
        status["observedGeneration"] >= deployment["metadata"].get("generation", 0)
        and status["replicas"] <= status["updatedReplicas"]
        and not any(one["type"] == "Progressing" and one["status"] == "False"
                    for one in status.get("conditions") or [])
    )  # fmt: skip
    return is_rolled_out and status["availableReplicas"] > 0


def _model(cluster: Cluster, name: str) -> Any:
    """What the service itself says of the bundle that it serves."""
    response = cluster.request(f"services/{name}:{PORT}/proxy/model", f"ask {name} for its bundle")
    return _decoded(response, name)


def _samples(cluster: Cluster, pod: str) -> list[Sample]:
    """A pod's metrics; none of one that is not ready, or gone."""
    try:
        path = f"pods/{pod}:{PORT}/proxy/metrics"
        return prometheus.samples(cluster.request(path, f"read the metrics of {pod}"))
    except UserError as error:
        if "may not" in str(error):
            raise
        return []


def _score(cluster: Cluster, name: str, rows: Sequence[Row]) -> Any:
    path = f"services/{name}:{PORT}/proxy/invocations"
    return _decoded(cluster.request(path, f"ask {name}", {"dataframe_records": list(rows)}), name)


def _decoded(response: str, name: str) -> Any:
    try:
        return json.loads(response)
    except ValueError:
        raise UserError(f"Kubernetes: {name} answers {response[:80]!r}, expected JSON") from None
