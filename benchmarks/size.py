"""The size of the repository: lines of code, packages in the lock, and files of dvc.yaml."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator

from benchmarks.figure import Figure
from benchmarks.workspace import REPOSITORY

# The most lines that each folder should have.
GOALS = {"src/mlops": 15_000, "tests": 16_000, "benchmarks": 2_200}
PIN = re.compile(r"^[a-z0-9][a-z0-9._-]*(\[[^\]]*\])?==", re.MULTILINE)


def measure() -> Iterator[Figure]:
    """Lines of the Python files and templates that Git tracks, and pins of the lock."""
    for folder, goal in GOALS.items():
        command = ["git", "ls-files", f"{folder}/*.py", f"{folder}/*.j2"]
        done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True)
        lines = sum(map(_lines, done.stdout.splitlines()))
        yield Figure(f"lines of {folder}", f"{lines:,}", f"at most {goal:,}", lines <= goal)
    packages = len(PIN.findall((REPOSITORY / "requirements.lock").read_text()))
    yield Figure("packages in requirements.lock", str(packages))
    yield Figure("lines of dvc.yaml", str(_lines("dvc.yaml")))


def _lines(name: str) -> int:
    return len((REPOSITORY / name).read_text().splitlines())
