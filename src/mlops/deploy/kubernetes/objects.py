"""An endpoint's objects in a cluster: those of its environment's overlay, with its own names.

The specifications below `infra/kubernetes` use placeholders such as `scoring-bundle`; a value that
is one of them is replaced, and nothing else.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from mlops.base.errors import UserError
from mlops.deploy import manifest, specification
from mlops.deploy.kubernetes import kubectl
from mlops.deploy.target import Endpoint
from mlops.registry.pin import Pin

OVERLAYS = Path("infra/kubernetes/overlays")
STORE = "MLOPS_BUNDLE_STORE"
PORT = 8080
PORTS = {"https": 443, "http": 80}
# The secret with the URLs of stores of features.
URLS = "features"
# The kinds of each bundle's objects, and of the endpoint's, in the order of their removal.
OF_BUNDLE = ("horizontalpodautoscaler", "poddisruptionbudget", "service", "deployment")
OF_ENDPOINT = ("httproute", "networkpolicy", "configmap", "serviceaccount")
PART, INSTANCE = "app.kubernetes.io/part-of", "app.kubernetes.io/instance"

Object = dict[str, Any]


def name(endpoint: Endpoint, digest: str) -> str:
    """The name of a bundle's objects."""
    return f"{endpoint.name}-{digest[: specification.SHORT]}"


@lru_cache(maxsize=8)
def overlay(endpoint: Endpoint) -> list[Object]:
    """The objects of an endpoint's environment, read once; UserError when it has none."""
    return kubectl.rendered(endpoint.root / _place(endpoint), _place(endpoint))


def namespace(endpoint: Endpoint) -> str:
    """The namespace of all objects."""
    for document in overlay(endpoint):
        if document["metadata"].get("namespace"):
            return str(document["metadata"]["namespace"])
    raise UserError(f"{_place(endpoint)}: found no namespace, expected one")


def of_bundle(endpoint: Endpoint, pin: Pin) -> list[Object]:
    """The objects of one bundle."""
    values = {
        "scoring-bundle": name(endpoint, pin.digest),
        "mlops-serving": specification.image(),
        "bundle-digest": pin.digest,
        "bundle-version": str(pin.version),
        "bundle-content": pin.dvc.bundle,
        "bundle-store": _store(),
    }
    documents = _filled(endpoint, OF_BUNDLE, values)
    for document in documents:
        if document["kind"] == "Deployment":
            _let_look_up(endpoint, document)
    return documents


def of_endpoint(endpoint: Endpoint) -> list[Object]:
    """The objects that all bundles share, but for the route; pods must reach the store."""
    documents = _filled(endpoint, OF_ENDPOINT[1:], {})
    _require_egress(endpoint, documents)
    return documents


def route(endpoint: Endpoint, shares: Mapping[str, int], mirror: Mapping[str, int]) -> Object:
    """The route with a backend for each name in `shares`, and copies to those in `mirror`."""
    routes = _filled(endpoint, OF_ENDPOINT[:1], {})
    if len(routes) != 1 or len(routes[0]["spec"].get("rules", [])) != 1:
        raise UserError(f"{_place(endpoint)}: expected one HTTPRoute with one rule")
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


def outdated(endpoint: Endpoint, deployment: Any) -> str:
    """How a deployment's options for looking features up differ from the manifest's."""
    words = (_container(endpoint, deployment) or {}).get("args") or []
    found = words[words.index("--store") :] if "--store" in words else []
    serving = manifest.load(endpoint.root, endpoint.environment).serving
    return serving.outdated(found, serving.options(serving.features) if serving.features else [])


def _let_look_up(endpoint: Endpoint, deployment: Object) -> None:
    """Pass on where features are by key; the URL of Redis is in a secret, by its variable's name.

    Raises UserError for a file, which the pods do not share, and without the service's container.
    """
    serving = manifest.load(endpoint.root, endpoint.environment).serving
    if not serving.features:
        return
    if serving.store == "embedded":
        place = f"{manifest.path(endpoint.environment)}: serving.store"
        raise UserError(f"{place}: found 'embedded', a file of one machine, expected 'redis'")
    container = _container(endpoint, deployment)
    if container is None:
        raise UserError(f"{_place(endpoint)}: Deployment: found no container named scoring")
    container["args"] = [*container.get("args", []), *serving.options(serving.features)]
    if serving.store == "redis":
        variable = serving.features.partition("/")[0]
        url = {"secretKeyRef": {"name": URLS, "key": variable}}
        container["env"] = [*container.get("env", []), {"name": variable, "valueFrom": url}]


def _container(endpoint: Endpoint, deployment: Any) -> Any | None:
    """The service's container, which the base names `scoring`, so as the endpoint once applied."""
    containers = deployment["spec"]["template"]["spec"]["containers"]
    return next((one for one in containers if one["name"] == endpoint.name), None)


def _store() -> str:
    store = os.environ.get(STORE, "").strip()
    with suppress(ValueError):
        parts = urlsplit(store)
        # A port that is none raises when it is read.
        is_web = parts.scheme in PORTS and parts.hostname and parts.port != 0
        if is_web or store.startswith("file://"):
            return store
    raise UserError(f"{STORE}: found {store!r}, expected the URL of DVC's remote over HTTPS")


def _require_egress(endpoint: Endpoint, documents: Sequence[Object]) -> None:
    """Raise UserError where network policies let pods connect to no port of the store, or no DNS.

    Which addresses these lead to is not known here: names are resolved in the cluster.
    """
    store = urlsplit(_store())
    policies = [one["spec"] for one in documents if one["kind"] == "NetworkPolicy"]
    limits = [policy.get("egress") or [] for policy in policies if _limits_egress(policy)]
    if not limits:
        return
    allowed = [port for rules in limits for rule in rules for port in rule.get("ports") or [{}]]
    wanted: list[tuple[int, Sequence[str], str]] = [(53, ("UDP", "TCP"), "DNS")]
    if store.scheme in PORTS:
        wanted.append((store.port or PORTS[store.scheme], ("TCP",), STORE))
    for number, protocols, what in wanted:
        if not any(_allows(port, number, protocols) for port in allowed):
            place = f"{_place(endpoint)}: NetworkPolicy"
            found = f"found no egress to port {number} by {' or '.join(protocols)}"
            raise UserError(f"{place}: {found}, expected one for {what}")


def _limits_egress(policy: Mapping[str, Any]) -> bool:
    """Whether a policy is of egress; one without types is where it has rules for it."""
    if types := policy.get("policyTypes"):
        return "Egress" in types
    return bool(policy.get("egress"))


def _allows(port: Mapping[str, Any], number: int, protocols: Sequence[str]) -> bool:
    """Whether an entry of a policy's ports has this one; without a port it has all."""
    first = port.get("port", number)
    is_in = isinstance(first, int) and first <= number <= port.get("endPort", first)
    return is_in and port.get("protocol", "TCP") in protocols


def _place(endpoint: Endpoint) -> Path:
    return OVERLAYS / endpoint.environment


def _filled(endpoint: Endpoint, kinds: Sequence[str], values: Mapping[str, str]) -> list[Object]:
    values = {"scoring": endpoint.name, "scoring-fetch": f"{endpoint.name}-fetch", **values}
    return [
        specification.replaced(document, lambda text: values.get(text, text))
        for document in overlay(endpoint)
        if document["kind"].lower() in kinds
    ]
