"""Bundles of every family and task, and services that score with them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from mlops.serving.app import App
from mlops.serving.service import Service
from mlops.serving.settings import Settings
from tests import apart
from tests.mlops.serving import bundles
from tests.mlops.serving.client import Client

Made = Callable[[str, str], Path]


@pytest.fixture(scope="session")
def made(shared: Any) -> Made:
    """The folder of a bundle of this family and task."""

    def make(family: str, task: str) -> Path:
        name = f"bundle-{family}-{task}"
        folder: Path = shared.folder(name, lambda folder: bundles.make(folder, family, task))
        return folder

    return make


@pytest.fixture(scope="session")
def serve() -> Iterator[Callable[..., Client]]:
    """Start a service for a bundle, in this process: `serve(folder, rows=10)`."""
    clients: list[Client] = []

    def start(folder: Path, version: str = "7", **settings: Any) -> Client:
        service = Service(Settings(bundle=str(folder), version=version, **settings))
        clients.append(Client(App(service)))
        return clients[-1]

    yield start
    for client in clients:
        client.loop.run_until_complete(client.app.service.stop())
        client.loop.close()


@pytest.fixture(scope="session")
def client(made: Made, serve: Callable[..., Client]) -> Client:
    """A service with a model of two classes."""
    return serve(made("lightgbm", "binary"))


@pytest.fixture(scope="session")
def programs(shared: Any) -> Callable[[Path], Path]:
    """Where the programs lie that a lock pins; its pins may conflict with this repository's.

    The test is skipped where there is no network.
    """

    def made(lock: Path) -> Path:
        folder: Path = shared.folder(
            f"programs-{lock.stem}", lambda to: apart.environment(lock, to)
        )
        return folder / "bin"

    return made
