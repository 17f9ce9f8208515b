"""Prefect worker of the `process` pool, restarted when it ends by itself."""

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
# Prefect's worker exits when its server is away for a while; the runs that it started go on.
RESTART_SECONDS = 5.0


def run() -> None:
    """Run the worker until SIGTERM or Ctrl-C."""
    WORKSPACE.mkdir(parents=True, exist_ok=True)
    signal.signal(signal.SIGTERM, _interrupt)
    while _run_once():
        print(f"the worker ended; it is restarted in {RESTART_SECONDS:.0f} s", file=sys.stderr)
        time.sleep(RESTART_SECONDS)


def _run_once() -> bool:
    """Run one worker until it ends; True when it ended by itself."""
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
