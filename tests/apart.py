"""Programs that can't live in the main environment, each in one of its own, from a lock."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from mlops.base import uv
from mlops.base.processes import CommandFailed

REPOSITORY = Path(__file__).parents[1]
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


def own_disk(shared: Any, tmp_path: Path) -> dict[str, str]:
    """The variables of a machine whose disk is empty but for the lock's environment."""

    def make(folder: Path) -> None:
        folder.mkdir()
        made = "from task import *; environment(Path(sys.argv[1]))"
        command = [sys.executable, "-c", made, REPOSITORY / "requirements.lock"]
        subprocess.run(command, cwd=REPOSITORY / "infra/jobs", check=True,
                       env={**os.environ, "TMPDIR": str(folder)})  # fmt: skip

    (tmp_path / "tmp").mkdir()
    for place in shared.folder("lock-environment", make).iterdir():
        if place.is_dir():
            (tmp_path / "tmp" / place.name).symlink_to(place)
    return {**os.environ, "TMPDIR": str(tmp_path / "tmp"), "PYTHONPATH": "/nowhere"}
