"""An endpoint's objects in a cluster: those of its environment's overlay, with its own names.

The specifications below `infra/kubernetes` use placeholders such as `scoring-bundle`; a value that
is one of them is replaced, and nothing else.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

from mlops.base.errors import UserError
from mlops.deploy import specification
from mlops.deploy.kubernetes import kubectl
from mlops.deploy.target import Endpoint
from mlops.registry.pin import Pin

OVERLAYS = Path("infra/kubernetes/overlays")
STORE = "MLOPS_BUNDLE_STORE"
PORT = 8080
# The kinds of each bundle's objects, and of the endpoint's, in the order of their removal.
OF_BUNDLE = ("horizontalpodautoscaler", "poddisruptionbudget", "service", "deployment")
OF_ENDPOINT = ("httproute", "networkpolicy", "configmap", "serviceaccount")
PART, INSTANCE = "app.kubernetes.io/part-of", "app.kubernetes.io/instance"

Object = dict[str, Any]
NOTHING: Mapping[str, str] = MappingProxyType({})


def name(endpoint: Endpoint, digest: str) -> str:
    """The name of a bundle's objects."""
    return f"{endpoint.name}-{digest[: specification.SHORT]}"


@dataclass(frozen=True)
class Overlay:
    """An environment's specification, as kustomize puts it together."""

    endpoint: Endpoint
    documents: Sequence[Object]

    @property
    def namespace(self) -> str:
        """The namespace of all objects."""
        for document in self.documents:
            if document["metadata"].get("namespace"):
                return str(document["metadata"]["namespace"])
        raise UserError(f"{_place(self.endpoint)}: found no namespace, expected one")

    def of_bundle(self, pin: Pin) -> list[Object]:
        """The objects of one bundle."""
        values = {
            "scoring-bundle": name(self.endpoint, pin.digest),
            "mlops-serving": specification.image(),
            "bundle-digest": pin.digest,
            "bundle-version": str(pin.version),
            "bundle-content": pin.dvc.bundle,
            "bundle-store": _store(),
        }
        return self._filled(OF_BUNDLE, values)

    def of_endpoint(self) -> list[Object]:
        """The objects that all bundles share, but for the route."""
        return self._filled(OF_ENDPOINT[1:])

    def route(self, shares: Mapping[str, int], mirror: Mapping[str, int]) -> Object:
        """The route with a backend for each name in `shares`, and copies to those in `mirror`."""
        routes = self._filled(OF_ENDPOINT[:1])
        if len(routes) != 1 or len(routes[0]["spec"].get("rules", [])) != 1:
            raise UserError(f"{_place(self.endpoint)}: expected one HTTPRoute with one rule")
        rule = routes[0]["spec"]["rules"][0]
        rule["backendRefs"] = [
            {"name": backend, "port": PORT, "weight": share} for backend, share in shares.items()
        ]
        others = [one for one in rule.get("filters", []) if one["type"] != "RequestMirror"]
        rule["filters"] = others + [
            {"type": "RequestMirror",
             "requestMirror": {"backendRef": {"name": backend, "port": PORT}, "percent": share}}
            for backend, share in mirror.items()
        ]  # fmt: skip
        return routes[0]

    def _filled(self, kinds: Sequence[str], values: Mapping[str, str] = NOTHING) -> list[Object]:
        name = self.endpoint.name
        values = {"scoring": name, "scoring-fetch": f"{name}-fetch", **values}
        return [_replaced(one, values) for one in self.documents if one["kind"].lower() in kinds]


@lru_cache(maxsize=8)
def overlay(endpoint: Endpoint) -> Overlay:
    """The specification of an endpoint's environment, read once; UserError when it has none."""
    place = _place(endpoint)
    return Overlay(endpoint, kubectl.rendered(endpoint.root / place, place))


def weights(route: Any | None) -> dict[str, int]:
    """Each backend's share of a route, by its name; a backend that has none has 1."""
    rules = route["spec"].get("rules") or [] if route else []
    return {ref["name"]: int(ref.get("weight", 1)) for rule in rules
            for ref in rule.get("backendRefs") or []}  # fmt: skip


def copies(route: Any | None) -> dict[str, int]:
    """Each backend's share of the mirrored requests."""
    rules = route["spec"].get("rules") or [] if route else []
    mirrors = [one["requestMirror"] for rule in rules for one in rule.get("filters") or []
               if one["type"] == "RequestMirror"]  # fmt: skip
    return {one["backendRef"]["name"]: int(one.get("percent", 100)) for one in mirrors}


def digest(deployment: Any) -> str:
    """The digest that a deployment's pods verify the bytes by before they start; empty without."""
    for container in deployment["spec"]["template"]["spec"].get("initContainers") or []:
        for variable in container.get("env") or []:
            if variable["name"] == "BUNDLE_DIGEST":
                return str(variable.get("value", ""))
    return ""


def _place(endpoint: Endpoint) -> Path:
    return OVERLAYS / endpoint.environment


def _store() -> str:
    store = os.environ.get(STORE, "").strip()
    if not store.startswith(("https://", "http://", "file://")):
        raise UserError(f"{STORE}: found {store!r}, expected the URL of DVC's remote over HTTPS")
    return store


def _replaced(part: Any, values: Mapping[str, str]) -> Any:
    if isinstance(part, dict):
        return {key: _replaced(value, values) for key, value in part.items()}
    if isinstance(part, list):
        return [_replaced(value, values) for value in part]
    return values.get(part, part) if isinstance(part, str) else part
