"""One world for each module that rehearses, with a Prefect server that its flows share."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.forge_server import ForgeServer
from tests.rehearsal.world import World, say

COMMAND = (sys.executable, "-c", "from mlops.cli import main; main()")


@pytest.fixture(scope="session")
def prefect(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a Prefect server's API."""
    folder = tmp_path_factory.mktemp("servers")
    env = {name: value for name, value in os.environ.items() if "PREFECT" not in name}

    def mlops(verb: str) -> str:
        done = subprocess.run(
            [*COMMAND, verb], cwd=folder, env=env, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    say("starting a Prefect server")
    try:
        urls = dict(line.split() for line in mlops("up").splitlines())
        yield f"{urls['prefect']}/api"
    finally:
        mlops("down")


@pytest.fixture(scope="module")
def world(
    repository: Callable[[str, Path], Any], prefect: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[World]:
    """A repository pushed for the first time; no workflow has run yet."""
    base = tmp_path_factory.mktemp("world")
    tables = repository("flights", base / "tables").tables()
    with ForgeServer() as forge:
        made = World(base, forge, prefect, {"DVC_REMOTE_URL": str(base / "remote")})
        yield made.found(tables)
        made.end()
