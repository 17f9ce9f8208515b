"""Bundles of every family and task, and services that score with them."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from mlops.serving.app import App
from mlops.serving.place import Place
from mlops.serving.service import Service
from mlops.serving.settings import Settings
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
        service = Service(Place(folder, version), Settings(**settings))
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

    def make(folder: Path, lock: Path) -> None:
        _uv("venv", "--python", sys.executable, str(folder))
        python = str(folder / "bin" / "python")
        _uv("pip", "sync", "--python", python, "--require-hashes", str(lock))

    def made(lock: Path) -> Path:
        folder: Path = shared.folder(f"programs-{lock.stem}", lambda to: make(to, lock))
        return folder / "bin"

    return made


def _uv(*words: str) -> None:
    done = subprocess.run(["uv", "-q", *words], capture_output=True, text=True, check=False)
    if "error sending request" in done.stderr or "Network" in done.stderr:
        pytest.skip(f"no network: {done.stderr.splitlines()[-1]}")
    assert done.returncode == 0, done.stderr
