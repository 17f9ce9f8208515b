"""A folder in which another writer is at work: a stage has computed all, and waits to write."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

# Far more than any step takes: a busy machine must not end a wait.
SECONDS = 300


@contextmanager
def held(folder: Path) -> Iterator[int]:
    """Hold the folder's lock; its file descriptor."""
    place = os.open(folder, os.O_RDONLY)
    fcntl.flock(place, fcntl.LOCK_EX)
    try:
        yield place
    finally:
        os.close(place)


def waits(pid: int) -> bool:
    """Whether a process waits for a lock."""
    lines = Path("/proc/locks").read_text().splitlines()
    return any("->" in line and f" {pid} " in line for line in lines)


def wait_until(what: Callable[[], Any], process: Any) -> Any:
    """Wait until `what` is true of a process that must not end before; its value."""
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        if value := what():
            return value
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)
    raise AssertionError("it never came to that")
