"""The local target's processes, for tests that start and stop them."""

from __future__ import annotations

import os
import shutil
import signal
import time
from contextlib import suppress
from pathlib import Path

from mlops.deploy.local.home import PROCESSES, Home


def stop(root: Path, seconds: float = 30.0) -> None:
    """End every supervisor of a repository, as a wiped folder does, and wait for it."""
    for folder in (root / PROCESSES).glob("*"):
        home = Home(root, folder.name)
        address = home.address() if home.supervised() else None
        shutil.rmtree(folder, ignore_errors=True)
        if address:
            ended(address.pid, seconds)


def ended(pid: int, seconds: float = 30.0) -> None:
    """Wait until a process is gone."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        with suppress(ProcessLookupError):
            os.kill(pid, 0)
            if _is_zombie(pid):
                return
            time.sleep(0.02)
            continue
        return
    os.kill(pid, signal.SIGKILL)
    raise AssertionError(f"{pid} did not end by itself")


def _is_zombie(pid: int) -> bool:
    """Ended, and not yet asked for by the process that started it."""
    import psutil

    with suppress(psutil.NoSuchProcess):
        return bool(psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)
    return True
