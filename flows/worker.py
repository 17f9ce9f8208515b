"""Runs what is due, as processes of this machine, until it is told to stop."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import FrameType

POOL = "process"
WORKSPACE = Path(".run/worker")
COMMAND = ("-m", "prefect", "worker", "start", "--pool", POOL, "--type", POOL, "--name", POOL)
# Prefect's worker gives up when its server was away for a while; what it had started runs on.
AGAIN_SECONDS = 5.0


def run() -> None:
    """Keep Prefect's worker of the pool `process` running."""
    WORKSPACE.mkdir(parents=True, exist_ok=True)
    signal.signal(signal.SIGTERM, _interrupt)
    while _once():
        print(f"the worker ended; it starts again in {AGAIN_SECONDS:.0f} s", file=sys.stderr)
        time.sleep(AGAIN_SECONDS)


def _once() -> bool:
    """One worker until its end; whether it ended by itself."""
    # A run begins in WORKSPACE, where it has to find flows/checkout.py.
    path = [str(Path(__file__).parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(path)}
    worker = subprocess.Popen([sys.executable, *COMMAND], env=env, process_group=0)
    try:
        worker.wait()
    except KeyboardInterrupt:
        worker.terminate()
        worker.wait()
        return False
    return True


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt
