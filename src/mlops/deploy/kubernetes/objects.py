"""What an endpoint consists of in a cluster: the overlay's objects, in an endpoint's own words.

The specifications below `infra/kubernetes` name things by words such as `scoring-bundle`; each
value that is such a word is replaced, and nothing else.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from mlops.base.errors import UserError
from mlops.deploy import specification
from mlops.deploy.kubernetes import kubectl
from mlops.deploy.target import Endpoint
from mlops.registry.pin import Pin

OVERLAYS = Path("infra/kubernetes/overlays")
STORE = "MLOPS_BUNDLE_STORE"
PORT = 8080
# There once for each bundle, and once for each endpoint; in the order in which they are removed.
OF_BUNDLE = ("horizontalpodautoscaler", "poddisruptionbudget", "service", "deployment")
OF_ENDPOINT = ("httproute", "networkpolicy", "configmap", "serviceaccount")
PART, INSTANCE = "app.kubernetes.io/part-of", "app.kubernetes.io/instance"

Object = dict[str, Any]


def name(endpoint: Endpoint, digest: str) -> str:
    """What a bundle's objects are called."""
    return f"{endpoint.name}-{digest[: specification.SHORT]}"


@dataclass(frozen=True)
class Overlay:
    """An environment's specification, as kustomize puts it together."""

    endpoint: Endpoint
    documents: Sequence[Object]

    @property
    def namespace(self) -> str:
        """Where everything is."""
        for document in self.documents:
            if document["metadata"].get("namespace"):
                return str(document["metadata"]["namespace"])
        raise UserError(f"{_place(self.endpoint)}: found no namespace, expected one")

    def of_bundle(self, pin: Pin) -> list[Object]:
        """The objects of one bundle."""
        words = {
            "scoring": self.endpoint.name,
            "scoring-bundle": name(self.endpoint, pin.digest),
            "scoring-fetch": f"{self.endpoint.name}-fetch",
            "mlops-serving": specification.image(),
            "bundle-digest": pin.digest,
            "bundle-version": str(pin.version),
            "bundle-content": pin.dvc.bundle,
            "bundle-store": _store(),
        }
        return [_worded(one, words) for one in self._of(OF_BUNDLE)]

    def of_endpoint(self) -> list[Object]:
        """The objects that all bundles share, but for the route."""
        words = {"scoring": self.endpoint.name, "scoring-fetch": f"{self.endpoint.name}-fetch"}
        return [_worded(one, words) for one in self._of(OF_ENDPOINT[1:])]

    def route(self, shares: Mapping[str, int], mirror: Mapping[str, int]) -> Object:
        """The route with a backend for each name in `shares`, and copies to those in `mirror`."""
        found = self._of(OF_ENDPOINT[:1])
        if len(found) != 1 or len(found[0]["spec"].get("rules", [])) != 1:
            raise UserError(f"{_place(self.endpoint)}: expected one HTTPRoute with one rule")
        document: Object = _worded(found[0], {"scoring": self.endpoint.name})
        rule = document["spec"]["rules"][0]
        rule["backendRefs"] = [
            {"name": backend, "port": PORT, "weight": share} for backend, share in shares.items()
        ]
        kept = [one for one in rule.get("filters", []) if one["type"] != "RequestMirror"]
        rule["filters"] = kept + [_copied(backend, mirror[backend]) for backend in mirror]
        return document

    def _of(self, kinds: Sequence[str]) -> list[Object]:
        return [one for one in self.documents if one["kind"].lower() in kinds]


@lru_cache(maxsize=8)
def overlay(endpoint: Endpoint) -> Overlay:
    """The specification of an endpoint's environment, read once; UserError when it has none."""
    place = _place(endpoint)
    return Overlay(endpoint, kubectl.rendered(endpoint.root / place, place))


def weights(found: Any | None) -> dict[str, int]:
    """Each backend's share of a route, by its name; it says none where it has but one."""
    rules = found["spec"].get("rules") or [] if found else []
    return {ref["name"]: int(ref.get("weight", 1)) for rule in rules
            for ref in rule.get("backendRefs") or []}  # fmt: skip


def copies(found: Any | None) -> dict[str, int]:
    """Each backend's share of the mirrored requests."""
    rules = found["spec"].get("rules") or [] if found else []
    mirrors = [one["requestMirror"] for rule in rules for one in rule.get("filters") or []
               if one["type"] == "RequestMirror"]  # fmt: skip
    return {one["backendRef"]["name"]: int(one.get("percent", 100)) for one in mirrors}


def verified(deployment: Any) -> str:
    """The digest that a deployment's pods verify the bytes by before they start; empty without."""
    containers: Sequence[Any] = deployment["spec"]["template"]["spec"].get("initContainers") or []
    for container in containers:
        for variable in container.get("env") or []:
            if variable["name"] == "BUNDLE_DIGEST":
                return str(variable.get("value", ""))
    return ""


def _place(endpoint: Endpoint) -> Path:
    return OVERLAYS / endpoint.environment


def _copied(backend: str, share: int) -> Object:
    mirror = {"backendRef": {"name": backend, "port": PORT}, "percent": share}
    return {"type": "RequestMirror", "requestMirror": mirror}


def _store() -> str:
    store = os.environ.get(STORE, "").strip()
    if not store.startswith(("https://", "http://", "file://")):
        raise UserError(f"{STORE}: found {store!r}, expected the URL of DVC's remote over HTTPS")
    return store


def _worded(part: Any, words: Mapping[str, str]) -> Any:
    if isinstance(part, dict):
        return {key: _worded(value, words) for key, value in part.items()}
    if isinstance(part, list):
        return [_worded(value, words) for value in part]
    return words.get(part, part) if isinstance(part, str) else part
