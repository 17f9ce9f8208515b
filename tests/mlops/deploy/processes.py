"""The local target's processes, for tests that start and stop them."""

from __future__ import annotations

import os
import shutil
import signal
from pathlib import Path

from mlops.base import processes
from mlops.deploy import local
from mlops.deploy.local.home import PROCESSES, Home
from mlops.deploy.manifest import Rollout
from mlops.deploy.rollout import roll_out
from mlops.deploy.target import Endpoint
from mlops.registry.pin import Pin


def rolled_out(endpoint: Endpoint, pin: Pin, bundle: Path, rollout: Rollout) -> None:
    """Roll a bundle out here, as the command does; also in a process of its own."""
    list(roll_out(local, endpoint, pin, bundle, rollout))


def stop(root: Path) -> None:
    """End every supervisor of a repository, as a removed folder does, and wait for it."""
    for folder in (root / PROCESSES).glob("*"):
        home = Home(root, folder.name)
        address = home.address() if home.supervised() else None
        shutil.rmtree(folder, ignore_errors=True)
        if address:
            ended(address.pid)


def ended(pid: int, seconds: float = 30.0) -> None:
    """Wait until a process has ended."""
    if not processes.wait(lambda: not processes.runs(pid), seconds=seconds):
        os.kill(pid, signal.SIGKILL)
        raise AssertionError(f"{pid} did not end by itself")
