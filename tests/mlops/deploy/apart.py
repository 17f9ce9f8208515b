"""Tools that can't live in the main environment, each in one of its own, from a lock."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SECONDS = 400


def environment(lock: Path, folder: Path) -> None:
    """Make a folder an environment with what a lock names; skips without a network."""
    uv = (sys.executable, "-m", "uv")
    subprocess.run(
        [*uv, "venv", "--quiet", "--clear", "--python", sys.executable, str(folder)], check=True
    )
    sync = [*uv, "pip", "sync", "--quiet", "--require-hashes", "--python", str(folder), str(lock)]
    done = subprocess.run(sync, capture_output=True, text=True, timeout=SECONDS, check=False)
    if done.returncode:
        # A package that differs from its hash is no matter of the network.
        if "hash mismatch" in done.stderr.lower():
            pytest.fail(done.stderr)
        pytest.skip(f"{lock.name}: can't be installed here, without a package index")
