"""Programs that can't live in the main environment, each in one of its own, from a lock."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SECONDS = 400
# What uv says when there is nobody to ask; whatever else it says is a failure.
OFFLINE = ("Failed to fetch", "error sending request", "dns error")


def environment(lock: Path, folder: Path) -> None:
    """Make a folder an environment with what a lock names; skips without a network."""
    sync = ("pip", "sync", "--require-hashes", "--python", str(folder), str(lock))
    for words in (("venv", "--clear", "--python", sys.executable, str(folder)), sync):
        command = [sys.executable, "-m", "uv", "--quiet", *words]
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
        if any(sign in done.stderr for sign in OFFLINE):
            pytest.skip(f"no network: {lock.name} can't be installed")
        assert done.returncode == 0, done.stderr
