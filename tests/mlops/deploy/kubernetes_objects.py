"""The objects below infra/kubernetes, put together."""

from __future__ import annotations

import functools
import shutil
from pathlib import Path
from typing import Any

import pytest

from mlops.deploy.kubernetes import kubectl, objects
from mlops.deploy.target import Endpoint
from tests.conftest import REPOSITORY
from tests.mlops.deploy import small

FOLDER = REPOSITORY / "infra/kubernetes"
OVERLAYS = ("staging", "production")


@functools.cache
def rendered(place: str) -> list[Any]:
    """A folder's objects, as kubectl puts them together."""
    if not shutil.which("kubectl"):
        pytest.skip("no kubectl on the PATH")
    return kubectl.rendered(FOLDER / place, Path(place))


def applied(environment: str) -> list[Any]:
    """All objects of an endpoint with two bundles, as the target applies them."""
    endpoint = Endpoint(environment, "flights-late", REPOSITORY)
    rendered(f"overlays/{environment}")
    pins = [small.pin(letter * 64, number) for number, letter in enumerate("ab", 1)]
    names = [objects.name(endpoint, pin.digest) for pin in pins]
    route = objects.route(endpoint, {names[0]: 90, names[1]: 10}, {names[1]: 20})
    bundles = [one for pin in pins for one in objects.of_bundle(endpoint, pin)]
    return [*objects.of_endpoint(endpoint), *bundles, route]


def pods(documents: list[Any]) -> list[Any]:
    deployments = [one["spec"]["template"]["spec"] for one in documents
                   if one["kind"] == "Deployment"]  # fmt: skip
    services = [one for one in documents if one["kind"] == "InferenceService"]
    return deployments + [one["spec"]["predictor"] for one in services]


def at(document: Any, path: str) -> Any:
    """What is at a dotted path."""
    parts = [int(part) if part.isdigit() else part for part in path.split(".")]
    return functools.reduce(lambda part, key: part[key], parts, document)
