"""One world for each module that rehearses; raw tables and servers are everybody's."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from mlops.core import processes, servers
from tests.conftest import Shared
from tests.forge_server import ForgeServer
from tests.rehearsal.world import World, say
from tests.served import free_port

if TYPE_CHECKING:
    from mlflow import MlflowClient

START_SECONDS = 180.0
COMMANDS = [
    ("prefect", "server", "start"),
    (
        *("mlflow", "server", "--workers", "1", "--backend-store-uri", "sqlite:///mlflow.db"),
        *("--artifacts-destination", "artifacts"),
    ),
]


@pytest.fixture(scope="session")
def beginning(shared: Shared) -> Iterator[Path]:
    """The folder of both servers, which may not answer yet."""
    with shared.held("servers", _start_all, _stop_all) as folder:
        yield folder


@pytest.fixture(scope="session")
def prefect(beginning: Path, tables: Path) -> str:
    """The address of a Prefect server's API."""
    return f"{_answering(beginning / 'prefect')}/api"


@pytest.fixture(scope="session")
def mlflow(beginning: Path, tables: Path) -> Path:
    """The folder of an MLflow server, which keeps runs in SQLite, and artifacts too."""
    _answering(beginning / "mlflow")
    return beginning / "mlflow"


@pytest.fixture(scope="session")
def registry(mlflow: Path) -> MlflowClient:
    """What that server knows."""
    from mlflow import MlflowClient

    return MlflowClient(_url(mlflow))


@pytest.fixture(scope="module")
def model() -> str:
    """The name of a module's model, which the server tells from others."""
    return "flights-late"


def _start_all(folder: Path) -> None:
    for command in COMMANDS:
        say(f"starting a server: {command[0]}")
        _start(folder / command[0], *command)


def _start(folder: Path, *command: str) -> None:
    folder.mkdir(parents=True)
    port = free_port()
    (folder / "url").write_text(f"http://127.0.0.1:{port}")
    env = {name: value for name, value in os.environ.items() if "PREFECT" not in name}
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen(
            [sys.executable, "-m", *command, "--port", str(port)],
            cwd=folder, env={**servers.ENVIRONMENT, **env, "PREFECT_HOME": str(folder)},
            stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip
    (folder / "pid").write_text(str(server.pid))


def _answering(folder: Path) -> str:
    """The server's address, once it answers there."""
    deadline, url = time.monotonic() + START_SECONDS, _url(folder)
    while not processes.answers(url + servers.HEALTH[folder.name]):
        assert time.monotonic() < deadline, (folder / "log").read_text()
        time.sleep(0.2)
    return url


def _url(folder: Path) -> str:
    return (folder / "url").read_text()


def _stop_all(folder: Path) -> None:
    for number in folder.glob("*/pid"):
        with suppress(ProcessLookupError):
            os.killpg(int(number.read_text()), signal.SIGKILL)


@pytest.fixture(scope="session")
def tables(shared: Shared, repository: Callable[[str, Path], Any]) -> Path:
    """Raw tables: one place for all worlds, so that all make the same of them."""
    return shared.folder("world", lambda root: repository("flights", root)) / "csv"


@pytest.fixture(scope="module")
def world(
    tables: Path,
    prefect: str,
    mlflow: Path,
    model: str,
    shared: Shared,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[World]:
    """A repository pushed for the first time; no workflow has run yet.

    What its jobs have trained in the end is left in `shared` for others who need it.
    """
    base = tmp_path_factory.mktemp("world")
    with ForgeServer() as forge:
        variables = {"DVC_REMOTE_URL": str(base / "remote"), "MLFLOW_TRACKING_URI": _url(mlflow)}
        made = World(base, forge, prefect, variables)
        yield made.found(tables, model)
        made.end()
        made.leave(shared.base / "trained")


@pytest.fixture(scope="session")
def trained_before(shared: Shared) -> Path:
    """DVC's cache of a world that has ended, where one has; the same training is in it."""
    return shared.base / "trained"
