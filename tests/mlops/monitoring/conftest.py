"""Repositories with a pinned bundle of each task."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from mlops.contract import project
from mlops.evaluation.report import charts
from tests.mlops.monitoring.place import Place, write_bundle
from tests.mlops.monitoring.trips import Trips


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave the charts out of reports: drawing them takes most of an assessment's time."""
    monkeypatch.setattr(charts, "svg", lambda *chart: "<svg/>")


@pytest.fixture
def pinned(undrawn: None, shared: Any, tmp_path: Path) -> Callable[[str], Place]:
    """A repository of its own that pins a bundle of this task."""

    def make(task: str) -> Place:
        made = shared.folder(f"monitored-{task}", lambda folder: write_bundle(folder, task))
        return Place.make(tmp_path / "repository", made)

    return make


@pytest.fixture
def place(pinned: Callable[[str], Place]) -> Place:
    """A repository that pins a model of two classes."""
    return pinned("binary")


@pytest.fixture
def trips(undrawn: None, finished: Any, tmp_path: Path) -> Iterator[Trips]:
    """A repository of trips, whose rows have keys and outcomes."""
    yield Trips(finished("trips").copy(tmp_path / "repository"))
    project.forget("trips")
