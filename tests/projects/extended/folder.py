"""A deployment target: a folder that some other service loads its bundle from."""

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from mlops.base.files import folder_digest
from mlops.deploy.target import NO_MIRROR, Answer, Endpoint, Health, Row, Running
from mlops.registry.pin import Pin


def place(endpoint: Endpoint) -> Path:
    return endpoint.root / "served" / endpoint.name


def deploy(endpoint: Endpoint, pin: Pin, bundle: Path) -> None:
    shutil.rmtree(place(endpoint), ignore_errors=True)
    shutil.copytree(bundle, place(endpoint))


def traffic(
    endpoint: Endpoint, shares: Mapping[str, int], mirror: Mapping[str, int] = NO_MIRROR
) -> None:
    raise NotImplementedError("a folder holds one bundle")


def health(endpoint: Endpoint, digest: str) -> Health:
    return Health(requests=0, errors=0, seconds=0.0)


def ask(endpoint: Endpoint, digest: str, rows: Sequence[Row]) -> Answer:
    return Answer(seconds=0.0)


def current(endpoint: Endpoint) -> Running:
    if not place(endpoint).exists():
        return Running({})
    return Running({folder_digest(place(endpoint)): 100}, answers="elsewhere")


def remove(endpoint: Endpoint, digest: str) -> None:
    shutil.rmtree(place(endpoint))


def note(endpoint: Endpoint, text: str) -> None:
    """A folder keeps no notes."""
