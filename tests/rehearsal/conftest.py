"""One world for each module that rehearses."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests import standing
from tests.forge_server import ForgeServer
from tests.rehearsal.world import World

if TYPE_CHECKING:
    from mlflow import MlflowClient


@pytest.fixture(scope="session")
def prefect(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a Prefect server's API."""
    folder = tmp_path_factory.mktemp("prefect") / "server"
    standing.start(folder, *standing.PREFECT)
    yield f"{standing.answering(folder, 'prefect')}/api"
    standing.stop(folder)


@pytest.fixture(scope="session")
def mlflow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of an MLflow server, which keeps runs in SQLite, and artifacts too."""
    folder = tmp_path_factory.mktemp("mlflow") / "server"
    standing.start(folder, *standing.MLFLOW)
    yield standing.answering(folder, "mlflow")
    standing.stop(folder)


@pytest.fixture(scope="session")
def registry(mlflow: str) -> MlflowClient:
    """What that server knows."""
    from mlflow import MlflowClient

    return MlflowClient(mlflow)


@pytest.fixture(scope="module")
def target() -> str:
    """Where a module's environments run."""
    return "local"


@pytest.fixture(scope="module")
def world(
    repository: Callable[[str, Path], Any], prefect: str, target: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[World]:  # fmt: skip
    """A repository pushed for the first time, nothing configured; no workflow has run yet."""
    base = tmp_path_factory.mktemp("world")
    tables = repository("trips", base / "tables").root / "csv"
    with ForgeServer() as forge:
        made = World(base, forge, prefect)
        yield made.create(tables, target)
        made.end()
