"""One world for each module that rehearses; raw tables and servers are everybody's."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests import standing
from tests.conftest import Shared
from tests.forge_server import ForgeServer
from tests.rehearsal.world import World, say

if TYPE_CHECKING:
    from mlflow import MlflowClient


@pytest.fixture(scope="session")
def beginning(shared: Shared) -> Iterator[Path]:
    """The folder of both servers, which may not answer yet."""
    with shared.held("servers", _start, _stop) as folder:
        yield folder


@pytest.fixture(scope="session")
def prefect(beginning: Path, tables: Path) -> str:
    """The address of a Prefect server's API."""
    return f"{standing.answering(beginning / 'prefect', 'prefect')}/api"


@pytest.fixture(scope="session")
def mlflow(beginning: Path, tables: Path) -> Path:
    """The folder of an MLflow server, which keeps runs in SQLite, and artifacts too."""
    standing.answering(beginning / "mlflow", "mlflow")
    return beginning / "mlflow"


@pytest.fixture(scope="session")
def registry(mlflow: Path) -> MlflowClient:
    """What that server knows."""
    from mlflow import MlflowClient

    return MlflowClient(standing.url(mlflow))


@pytest.fixture(scope="module")
def target() -> str:
    """Where a module's environments run."""
    return "trips.server"


def _start(folder: Path) -> None:
    for command in (standing.PREFECT, standing.MLFLOW):
        say(f"starting a server: {command[0]}")
        standing.start(folder / command[0], *command)


def _stop(folder: Path) -> None:
    standing.stop(folder / "prefect", folder / "mlflow")


@pytest.fixture(scope="session")
def tables(shared: Shared, repository: Callable[[str, Path], Any]) -> Path:
    """Raw tables: one place for all worlds, so that all make the same of them."""
    return shared.folder("world", lambda root: repository("trips", root)) / "csv"


@pytest.fixture(scope="module")
def world(
    tables: Path, prefect: str, mlflow: Path, target: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[World]:  # fmt: skip
    """A repository pushed for the first time; no workflow has run yet."""
    base = tmp_path_factory.mktemp("world")
    with ForgeServer() as forge:
        variables = {
            "DVC_REMOTE_URL": str(base / "remote"),
            "DVC_PROPOSALS_URL": str(base / "proposals"),
            "MLFLOW_TRACKING_URI": standing.url(mlflow),
        }
        made = World(base, forge, prefect, variables)
        yield made.create(tables, target)
        made.end()
