"""Kubernetes as a target: a Deployment for each bundle, and a Gateway API route with their weights.

A pod fetches its bundle from DVC's remote and verifies every byte before it starts, so that the
digest in its specification is the one that it serves. The service's own metrics tell how its
requests went, scores included, for as long as its pods live. kubectl must be allowed to ask
services and pods through the cluster's proxy.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mlops.base.errors import UserError
from mlops.deploy import smoke_test
from mlops.deploy.kubernetes import health as kubernetes_health
from mlops.deploy.kubernetes import objects
from mlops.deploy.kubernetes.kubectl import Cluster
from mlops.deploy.kubernetes.objects import INSTANCE, OF_BUNDLE, OF_ENDPOINT, PART, PORT, Overlay
from mlops.deploy.target import NO_MIRROR, Answer, Endpoint, Health, Row, Running
from mlops.registry.pin import Pin

NOTE = "mlops/note"
WAIT = "330s"


def deploy(endpoint: Endpoint, pin: Pin, bundle: Path) -> None:
    """Run a bundle beside what runs, tested, with 0 % of the traffic; 100 % when it is alone."""
    (cluster, overlay), name = _reach(endpoint), objects.name(endpoint, pin.digest)
    before = cluster.find("deployment", name)
    cluster.apply(overlay.of_endpoint(), f"prepare {endpoint.name}")
    cluster.apply(overlay.of_bundle(pin), f"deploy {name}")
    try:
        _wait(cluster, name)
        _require(cluster, name, pin.digest)
        smoke_test.passes(bundle, pin.digest, f"{endpoint.name} in Kubernetes",
                     lambda rows: _score(cluster, name, rows))  # fmt: skip
    except UserError:
        if before is None:
            cluster.delete(OF_BUNDLE, f"{INSTANCE}={name}")
        raise
    route = cluster.find("httproute", endpoint.name)
    shares = objects.weights(route)
    if name not in shares or not any(shares.values()):
        alone = not any(shares.values())
        _route(cluster, overlay, shares | {name: 100 if alone else 0}, objects.copies(route))


def traffic(
    endpoint: Endpoint, shares: Mapping[str, int], mirror: Mapping[str, int] = NO_MIRROR
) -> None:
    """Give each digest its percentage; `mirror` is of requests copied, the answers unserved."""
    cluster, overlay = _reach(endpoint)
    known = _digests(cluster, endpoint)
    for digest in (*shares, *mirror):
        if digest not in known.values():
            raise UserError(f"{endpoint.name}: bundle {digest[:12]} is not deployed in Kubernetes")
    wanted = {name: shares.get(digest, 0) for name, digest in known.items()}
    copied = {objects.name(endpoint, digest): share for digest, share in mirror.items() if share}
    found = cluster.find("httproute", endpoint.name)
    if (objects.weights(found), objects.copies(found)) != (wanted, copied):
        _route(cluster, overlay, wanted, copied)


def health(endpoint: Endpoint, digest: str) -> Health:
    """How the requests of all of a bundle's pods went since they started, by their own metrics."""
    return kubernetes_health.health(_reach(endpoint)[0], objects.name(endpoint, digest))


def ask(endpoint: Endpoint, digest: str, rows: Sequence[Row]) -> Answer:
    """Let this very bundle score rows, whatever its share; its metrics count them too.

    The time it takes is kubectl's as well, for the running version as for the new one.
    """
    cluster, name = _reach(endpoint)[0], objects.name(endpoint, digest)
    return smoke_test.timed(lambda: _score(cluster, name, rows))


def current(endpoint: Endpoint) -> Running:
    """What is deployed and was ready, by the digests that pods verify their bytes by."""
    cluster, _ = _reach(endpoint)
    route = cluster.find("httproute", endpoint.name)
    shares, found = objects.weights(route), _deployments(cluster, endpoint)
    for name, share in shares.items():
        if share and not any(objects.verified(one) for one in found
                             if one["metadata"]["name"] == name):  # fmt: skip
            raise UserError(
                f"{endpoint.name}: {name} answers requests in Kubernetes, and is none of a "
                "bundle's; take it out of the route"
            )
    known = {name: digest for name, digest in _digests(cluster, endpoint).items() if name in shares}
    ready = {one["metadata"]["name"]: (one.get("status") or {}).get("availableReplicas", 0)
             for one in found}  # fmt: skip
    silent = any(share and not ready[name] for name, share in shares.items())
    annotations = route["metadata"].get("annotations") or {} if route else {}
    traffic = {digest: shares[name] for name, digest in known.items()}
    return Running(traffic, annotations.get(NOTE, ""), "no" if silent else "yes")


def remove(endpoint: Endpoint, digest: str) -> None:
    """Run this one no more; the last one removes the endpoint. Raises UserError while it serves."""
    (cluster, overlay), name = _reach(endpoint), objects.name(endpoint, digest)
    route = cluster.find("httproute", endpoint.name)
    shares, copied = objects.weights(route), objects.copies(route)
    others = {one["metadata"]["name"] for one in _deployments(cluster, endpoint)} - {name}
    if not others:
        cluster.delete((*OF_ENDPOINT[:1], *OF_BUNDLE, *OF_ENDPOINT[1:]), f"{PART}={endpoint.name}")
        return
    if shares.get(name):
        raise UserError(
            f"{endpoint.name}: bundle {digest[:12]} answers {shares[name]} % of the requests in "
            "Kubernetes, expected 0 before it is removed"
        )
    if name in shares or name in copied:
        _route(cluster, overlay, _without(shares, name), _without(copied, name))
    cluster.delete(OF_BUNDLE, f"{INSTANCE}={name}")


def note(endpoint: Endpoint, text: str) -> None:
    """Keep a line among the annotations of the endpoint's route, "" for none."""
    cluster, _ = _reach(endpoint)
    route = cluster.find("httproute", endpoint.name)
    if route is None:
        raise UserError(f"{endpoint.name}: found no such route in Kubernetes; `mlops reconcile`")
    if (route["metadata"].get("annotations") or {}).get(NOTE, "") != text:
        cluster.annotate("httproute", endpoint.name, NOTE, text)


def _reach(endpoint: Endpoint) -> tuple[Cluster, Overlay]:
    overlay = objects.overlay(endpoint)
    return Cluster(overlay.namespace), overlay


def _without(shares: Mapping[str, int], name: str) -> dict[str, int]:
    return {other: share for other, share in shares.items() if other != name}


def _deployments(cluster: Cluster, endpoint: Endpoint) -> list[Any]:
    return cluster.every("deployment", f"{PART}={endpoint.name}")


def _digests(cluster: Cluster, endpoint: Endpoint) -> dict[str, str]:
    """The bundles of an endpoint, by their deployments' names."""
    found = {one["metadata"]["name"]: objects.verified(one)
             for one in _deployments(cluster, endpoint)}  # fmt: skip
    return {name: digest for name, digest in found.items() if digest}


def _route(
    cluster: Cluster, overlay: Overlay, shares: Mapping[str, int], mirror: Mapping[str, int]
) -> None:
    document = overlay.route(shares, mirror)
    cluster.apply([document], f"move the traffic of {overlay.endpoint.name}")


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
    found = cluster.find("deployment", name) or {}
    conditions = (found.get("status") or {}).get("conditions") or []
    said = [one.get("message", "") for one in conditions if one["type"] == "ReplicaFailure"]
    for pod in cluster.every("pod", f"{INSTANCE}={name}"):
        status = pod.get("status") or {}
        for one in (status.get("initContainerStatuses") or []) + (
            status.get("containerStatuses") or []
        ):
            for state in ({**one.get("state", {}), **one.get("lastState", {})}).values():
                said.append(state.get("message") or state.get("reason") or "")
    return " ".join("; ".join(dict.fromkeys(filter(None, said))).split())[:200]


def _require(cluster: Cluster, name: str, digest: str) -> None:
    """Raises UserError unless the service itself says that it serves these bytes."""
    said = cluster.read(f"services/{name}:{PORT}/proxy/model", f"ask {name} for its bundle")
    found = str(json.loads(said).get("digest", ""))
    if found != digest:
        raise UserError(f"Kubernetes: {name} serves {found[:12]}, expected {digest[:12]}")


def _score(cluster: Cluster, name: str, rows: Sequence[Row]) -> Any:
    place = f"services/{name}:{PORT}/proxy/invocations"
    said = cluster.send(place, {"dataframe_records": list(rows)}, f"ask {name}")
    try:
        return json.loads(said)
    except ValueError:
        raise UserError(f"Kubernetes: {name} answers {said[:80]!r}, expected JSON") from None
