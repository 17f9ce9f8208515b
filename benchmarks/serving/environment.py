"""Environments of their own for rivals whose pins conflict with this repository's."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from benchmarks import process
from benchmarks.figure import progress
from benchmarks.workspace import BIN, REPOSITORY

LOCKS = Path(__file__).with_name("rivals")
HOME = REPOSITORY / ".cache/rivals"


def programs(name: str) -> Path:
    """Where a rival's programs lie; made by uv from its lock when that has changed.

    Raises Failed where uv can't reach its packages.
    """
    folder, lock = HOME / name, LOCKS / f"{name}.lock"
    stamp = folder / "made-from.lock"
    if not stamp.exists() or stamp.read_bytes() != lock.read_bytes():
        progress(f"{name}: making {folder.relative_to(REPOSITORY)}")
        python = str(folder / "bin/python")
        _uv("venv", "-q", "--clear", "--python", sys.executable, str(folder))
        _uv("pip", "sync", "-q", "--python", python, "--require-hashes", str(lock))
        stamp.write_bytes(lock.read_bytes())
    return folder / "bin"


def _uv(*words: str) -> None:
    process.run([str(BIN / "uv"), *words], REPOSITORY, os.environ)
