"""Runs what is due, as processes of this machine, until it is told to stop."""

from __future__ import annotations

import os
import sys
from pathlib import Path

POOL = "process"
WORKSPACE = Path(".run/worker")


def run() -> None:
    """Become Prefect's worker of the pool `process`."""
    WORKSPACE.mkdir(parents=True, exist_ok=True)
    command = ["-m", "prefect", "worker", "start", "--pool", POOL, "--type", POOL, "--name", POOL]
    os.execv(sys.executable, [sys.executable, *command])
