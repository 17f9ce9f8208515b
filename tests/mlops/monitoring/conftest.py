"""Repositories with a pinned bundle of each task."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.mlops.monitoring.place import Place, write_bundle


@pytest.fixture
def pinned(shared: Any, tmp_path: Path) -> Callable[[str], Place]:
    """A repository of its own that pins a bundle of this task."""

    def make(task: str) -> Place:
        made = shared.folder(f"monitored-{task}", lambda folder: write_bundle(folder, task))
        return Place.make(tmp_path / "repository", made)

    return make


@pytest.fixture
def place(pinned: Callable[[str], Place]) -> Place:
    """A repository that pins a model of two classes."""
    return pinned("binary")
