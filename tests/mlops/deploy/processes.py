"""The local target's processes, for tests that start and stop them."""

from __future__ import annotations

import os
import shutil
import signal
from pathlib import Path

from mlops.base import processes
from mlops.deploy.local.home import PROCESSES, Home


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
