"""Programs that can't live in the main environment, each in one of its own, from a lock."""

from __future__ import annotations

from pathlib import Path

import pytest

from mlops.base import uv
from mlops.base.processes import CommandFailed

# What uv says when there is nobody to ask; whatever else it says is a failure.
OFFLINE = ("Failed to fetch", "error sending request", "dns error")


def environment(lock: Path, folder: Path) -> None:
    """Make a folder an environment with what a lock names; skips without a network."""
    try:
        uv.environment(folder, lock)
    except CommandFailed as failed:
        if any(sign in failed.stderr for sign in OFFLINE):
            pytest.skip(f"no network: {lock.name} can't be installed")
        raise
