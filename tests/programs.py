"""Programs that a test needs and a user's machine may lack."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest


def program(name: str, install: str, *folders: Path) -> str:
    """The path of a program, searched for on the PATH and in `folders`.

    Where it is missing the test is skipped with how to install it, and fails in CI.
    """
    path = os.pathsep.join([*map(str, folders), os.environ["PATH"]])
    return shutil.which(name, path=path) or missing(f"{name}: not found; {install}")


def missing(reason: str) -> str:
    """Skip the test for lack of something, but fail in CI, where everything must be installed."""
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)
