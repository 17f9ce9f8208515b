"""A Prefect or MLflow server of the tests' own, in a folder of its own, on a free port."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from mlops.base import processes
from mlops.pipeline import servers

PREFECT = ("prefect", "server", "start")
# Runs in SQLite; the server keeps artifacts too.
MLFLOW = (
    *("mlflow", "server", "--workers", "1", "--backend-store-uri", "sqlite:///mlflow.db"),
    *("--artifacts-destination", "artifacts"),
)


def start(folder: Path, *command: str) -> None:
    """Start a server; it may take half a minute until it answers."""
    folder.mkdir(parents=True)
    port = processes.free_port()
    (folder / "url").write_text(f"http://{processes.HOST}:{port}")
    env = {name: value for name, value in os.environ.items() if "PREFECT" not in name}
    env |= {**servers.ENVIRONMENT, "PREFECT_HOME": str(folder)}
    program = [sys.executable, "-m", *command, "--port", str(port)]
    (folder / "pid").write_text(str(processes.start(program, folder / "log", folder, env)))


def url(folder: Path) -> str:
    """Where the server is, whether or not it answers."""
    return (folder / "url").read_text()


def answering(folder: Path, program: str) -> str:
    """Where the server is, once it answers."""
    place, pid = url(folder), int((folder / "pid").read_text())
    health = place + servers.HEALTH[program]
    answers = processes.wait(lambda: processes.answers(health), lambda: processes.runs(pid))
    assert answers, (folder / "log").read_text()
    return place


def stop(*folders: Path) -> None:
    """End servers with all their processes."""
    pids = [int((folder / "pid").read_text()) for folder in folders]
    processes.stop(pids)
