"""Environments of their own, by uv, for programs that conflict with this project's lock."""

from __future__ import annotations

import sys
from pathlib import Path

from mlops.base import processes
from mlops.base.errors import one_line
from mlops.base.processes import CommandFailed


def environment(folder: Path, lock: Path) -> Path:
    """Make a folder the environment of a lock, or bring it up to date; gives its programs."""
    for words in (
        ["venv", "--allow-existing", "--python", sys.executable, str(folder)],
        ["pip", "sync", "--require-hashes", "--python", str(folder), str(lock)],
    ):
        try:
            processes.run([sys.executable, "-m", "uv", "--quiet", *words])
        except CommandFailed as failed:
            line = f"{lock}: could not be installed: {one_line(failed.stderr)}"
            raise CommandFailed(line, failed.code, failed.stderr) from None
    return folder / "bin"
