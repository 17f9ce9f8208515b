"""Programs that can't live in the main environment, each in one of its own, from a lock."""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
import sysconfig
from pathlib import Path

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


def own_disk(tmp_path: Path) -> dict[str, str]:
    """The variables of a machine whose disk is empty but for the lock's environment.

    Its libraries are those of this one, compiled already; the repository's own code is not there.
    """
    version = hashlib.sha256((REPOSITORY / "requirements.lock").read_bytes()).hexdigest()[:16]
    folder, installed = tmp_path / f"tmp/mlops-{version}", Path(sysconfig.get_path("purelib"))
    libraries = folder / installed.relative_to(sys.prefix)
    libraries.mkdir(parents=True)
    for path in installed.iterdir():
        if not path.name.startswith(("mlops", "_mlops")):
            (libraries / path.name).symlink_to(path)
    (folder / "bin").mkdir()
    (folder / "bin/python").symlink_to(sys.executable)
    shutil.copy(Path(sys.prefix, "pyvenv.cfg"), folder)
    (folder / "whole").touch()
    return {**os.environ, "TMPDIR": str(tmp_path / "tmp"), "PYTHONPATH": "/nowhere"}
